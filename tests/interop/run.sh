#!/usr/bin/env bash
# RocketMQ's own clients against escrowd, and libescrow against escrowd and Apache RocketMQ's broker: one case per client and feature,
# a table at the end.
#
# usage: tests/interop/run.sh [--build FOLDER] [--only CLIENT[/CASE]] [--keep] [--list]
#   --build  folder with a built escrowd; without it one is built (Debug with the sanitizers) in ESCROW_INTEROP_BUILD
#   --only   one client (--list names them), or one case of it; may be given several times
#   --keep   leave the folder with the logs, and say where it is
#   --list   print the clients and their cases
# Environment:
#   ESCROW_INTEROP_BUILD  build folder (a folder in TMPDIR)
#
# Each client is fetched from its registry by the tool of its ecosystem (Maven, go, npm), in the version its folder names, and needs
# that tool. Each client gets a server of its own on loopback, with free ports and an empty folder. A client that cannot be
# fetched or built, and a case without a result, are failures. Leaves no process and no file behind, also when interrupted.
# Exit status: 0 every case is ok, 1 some are not, 2 usage.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/tests/interop
clients=(c c-rocketmq java-4.9 java-5 java-5-tls mqadmin-4.9 mqadmin-5 go node spring-2.2 spring-2.3 cloud-2021 cloud-2023)
build=
keep=no
list=no
only=()
client_seconds=1500 # one client's cases together; a case has a limit of its own, which its program keeps

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=${2:?} && shift ;;
    --only) only+=("${2:?}") && shift ;;
    --keep) keep=yes ;;
    --list) list=yes ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

# shellcheck source=tests/interop/lib.sh
. "$here/lib.sh"
work=$(mktemp -d "${TMPDIR:-/tmp}/escrow-interop.XXXXXX")
child=
servers=()

# End a process of ours, and wait until it is gone.
end() { # PID or -GROUP
    kill -TERM -- "$1" 2>/dev/null || :
    until_true 15 is_gone "$1" || kill -KILL -- "$1" 2>/dev/null || :
    wait "${1#-}" 2>/dev/null || :
}

finish() {
    local status=$? one
    trap '' INT TERM HUP
    [ -z "$child" ] || end "-$child"
    for one in "${servers[@]}"; do
        end "$one"
    done
    if [ "$keep" = yes ]; then
        say "logs: $work"
    else
        rm -rf "$work"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A command in a process group of its own, so that all of it can be ended at once.
run_group() {
    local status=0
    set -m
    "$@" </dev/null &
    child=$!
    set +m
    wait "$child" || status=$?
    kill -KILL -- "-$child" 2>/dev/null || : # what it left behind
    child=
    return "$status"
}

build_escrowd() {
    build=${ESCROW_INTEROP_BUILD:-${TMPDIR:-/tmp}/escrow-interop-build-$(id -u)}
    say "building escrowd in $build"
    if ! run_group cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DESCROW_SANITIZE=address,undefined \
        -DESCROW_TESTS=OFF >"$work/build.log" 2>&1 ||
        ! run_group cmake --build "$build" --target escrowd >>"$work/build.log" 2>&1; then
        tail -n 20 "$work/build.log" >&2
        exit 1
    fi
}

# An authority, and certificates of it for the server and for clients, in a folder.
make_certificates() { # FOLDER
    local name
    mkdir "$1"
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=authority -days 2 -keyout "$1/ca.key" -out "$1/ca.pem"
    printf 'subjectAltName = IP:127.0.0.1\n' >"$1/names"
    for name in server client; do
        openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" -keyout "$1/$name.key" -out "$1/$name.csr"
        openssl x509 -req -in "$1/$name.csr" -CA "$1/ca.pem" -CAkey "$1/ca.key" -days 2 -extfile "$1/names" -out "$1/$name.pem"
    done
}

# Starts an escrowd for a client; sets namesrv and broker. Half messages are asked about early, so that nobody waits long.
# KIND: plain; tls: takes nothing else, and wants the client's certificate; keys: wants requests signed by a user of users.conf
# (inside TLS, too, if the client's name ends in -tls).
start_escrowd() { # NAME KIND FOLDER
    local certs=$work/$1/certificates log=$3/escrowd.log options=()
    mkdir -p "$3"
    if [ "$2" = keys ]; then
        install -m 600 "$here/users.conf" "$3/users.conf"
        options+=(--acl.file "$3/users.conf")
    fi
    if [ "$2" = tls ] || [ "${1%-tls}" != "$1" ]; then
        [ -d "$certs" ] || make_certificates "$certs" >"$work/$1/openssl.log" 2>&1 || {
            tail -n 20 "$work/$1/openssl.log" >&2
            return 1
        }
        options+=(--tls.mode enforcing --tls.cert.file "$certs/server.pem" --tls.key.file "$certs/server.key"
            --tls.ca.file "$certs/ca.pem" --tls.client.cert required)
    fi
    setarch -R "$build/src/broker/escrowd" --data.dir "$3/data" --broker.port 0 --broker.vip.port 0 --namesrv.port 0 \
        --txn.timeout.ms 1000 --txn.check.interval.ms 1000 "${options[@]}" >"$log" 2>&1 &
    servers+=($!)
    until_true 60 grep -q ' ready ' "$log" || {
        tail -n 20 "$log" >&2
        return 1
    }
    broker=$(sed -n 's/.* broker listens on //p' "$log")
    namesrv=$(sed -n 's/.* name server listens on //p' "$log")
}

# Starts what a client's cases need and exports where it listens. A client whose name ends in -rocketmq gets Apache RocketMQ's own
# server, one in -tls a server that takes nothing else. Cases named tls..., access-keys... have servers of their own (INTEROP_TLS,
# INTEROP_KEYS: name server and broker).
start_server() { # NAME CASE...
    local name=$1 log=$work/$1/escrowd.log namesrv broker
    shift
    export INTEROP_TLS='' INTEROP_KEYS=''
    if [ "${name%-rocketmq}" != "$name" ]; then
        "$here/c/rocketmq.sh" "$work/$name/libraries" "$work/$name/data" >"$log" 2>&1 &
        servers+=($!)
        until_true 120 grep -q '^ready ' "$log" || {
            tail -n 20 "$log" >&2
            return 1
        }
        export INTEROP_NAMESRV INTEROP_BROKER=
        INTEROP_NAMESRV=$(sed -n 's/^ready //p' "$log")
        return
    fi
    case " $*" in *' tls'*) start_escrowd "$name" tls "$work/$name/tls" && INTEROP_TLS="$namesrv $broker" ;; esac || return 1
    case " $*" in *' access-keys'*) start_escrowd "$name" keys "$work/$name/keys" && INTEROP_KEYS="$namesrv $broker" ;; esac || return 1
    start_escrowd "$name" plain "$work/$name" || return 1
    export INTEROP_NAMESRV=$namesrv INTEROP_BROKER=$broker
}

# A server that does not stop cleanly (a sanitizer's finding, too) is a failure of its own.
stop_server() { # NAME
    local one status bad=0
    for one in "${servers[@]}"; do
        status=0
        kill -TERM "$one" 2>/dev/null || :
        until_true 60 is_gone "$one" || kill -KILL "$one" || :
        wait "$one" || status=$?
        [ "$status" -eq 0 ] || bad=$status
    done
    servers=()
    if [ "${1%-rocketmq}" != "$1" ]; then
        return # not ours
    fi
    if [ "$bad" -eq 0 ]; then
        echo "ok server-stops-cleanly"
    else
        tail -n 30 "$work/$1"/escrowd.log "$work/$1"/*/escrowd.log >&2 || :
        echo "FAIL server-stops-cleanly: exit status $bad"
    fi
}

# The cases of a client that were asked for.
wanted_cases() { # NAME ALL...
    local name=$1 case_
    shift
    for case_; do
        case $name/$case_ in *-rocketmq/tls* | *-rocketmq/access-keys*) continue ;; esac # Apache RocketMQ's servers are told in another way
        if [ ${#only[@]} -eq 0 ] || is_wanted "$name" "$case_"; then
            echo "$case_"
        fi
    done
}
is_wanted() { # NAME [CASE]
    local one
    [ ${#only[@]} -gt 0 ] || return 0
    for one in "${only[@]}"; do
        case $one in
        "$1" | "$1/${2:-}") return 0 ;;
        "$1"/*) [ $# -gt 1 ] || return 0 ;;
        esac
    done
    return 1
}

# Runs one client; its lines go to NAME/results.
run_client() { # NAME
    local name=$1 folder=$here/${1%%-*} line case_ cases
    mkdir "$work/$name"
    export INTEROP_CLIENT=$name INTEROP_WORK=$work/$name INTEROP_BUILD=$build
    : >"$work/$name/results"
    say "$name: fetching and building"
    if ! run_group "$folder/client.sh" prepare >"$work/$name/prepare.log" 2>&1; then
        tail -n 20 "$work/$name/prepare.log" >&2
        echo "FAIL prepare: the client could not be fetched or built" | tee "$work/$name/results"
        return
    fi
    mapfile -t cases < <("$folder/client.sh" list)
    mapfile -t cases < <(wanted_cases "$name" "${cases[@]}")
    if [ ${#cases[@]} -eq 0 ]; then
        echo "FAIL list: no such case" | tee "$work/$name/results"
        return
    fi
    if [ "$list" = yes ]; then
        printf "$name/%s\n" "${cases[@]}"
        return
    fi
    say "$name: ${#cases[@]} cases"
    start_server "$name" "${cases[@]}" || {
        echo "FAIL server: does not start" | tee "$work/$name/results"
        return
    }
    run_group timeout -k 5 "$client_seconds" "$folder/client.sh" run "${cases[@]}" >"$work/$name/output.log" 2>&1 || :
    for case_ in "${cases[@]}"; do
        line=$(grep -aE -m1 "^(ok|FAIL) $case_(:|\$)" "$work/$name/output.log" || echo "FAIL $case_: no result")
        printf '%s\n' "${line:0:500}"
    done >>"$work/$name/results"
    stop_server "$name" >>"$work/$name/results"
    cat "$work/$name/results"
    grep -q '^FAIL' "$work/$name/results" && [ "$keep" = no ] && grep -avE '^(ok|FAIL) ' "$work/$name/output.log" | tail -n 60 >&2
    return 0
}

for name in "${only[@]}"; do
    case " ${clients[*]} " in
    *" ${name%%/*} "*) ;;
    *) say "tests/interop: no client '${name%%/*}'" && exit 2 ;;
    esac
done
[ -n "$build" ] || [ "$list" = yes ] || build_escrowd
for name in "${clients[@]}"; do
    if is_wanted "$name"; then
        run_client "$name"
    fi
done
[ "$list" = no ] || exit 0

echo
printf '%-12s %5s %7s\n' client ok failed
failed=0
for name in "${clients[@]}"; do
    [ -f "$work/$name/results" ] || continue
    bad=$(grep -c '^FAIL' "$work/$name/results" || :)
    printf '%-12s %5d %7d\n' "$name" "$(grep -c '^ok' "$work/$name/results" || :)" "$bad"
    failed=$((failed + bad))
done
for name in "${clients[@]}"; do
    [ ! -f "$work/$name/results" ] || sed -n "s|^FAIL |$name/|p" "$work/$name/results"
done
[ "$failed" -eq 0 ]
