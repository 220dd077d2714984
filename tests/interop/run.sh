#!/usr/bin/env bash
# RocketMQ's own clients, and libescrow, against escrowd and against Apache RocketMQ's broker: one case per client and feature,
# a table at the end.
#
# usage: tests/interop/run.sh [--build FOLDER] [--only CLIENT[/CASE]] [--jobs N] [--keep] [--list]
#   --build  folder with a built escrowd; without it one is built (Debug with the sanitizers) in ESCROW_INTEROP_BUILD
#   --only   one client (--list names them), or one case of it; may be given several times
#   --jobs   clients at a time (3: they wait most of the time)
#   --keep   leave the folder with the logs, and say where it is
#   --list   print the clients and their cases
# Environment:
#   ESCROW_INTEROP_BUILD  build folder (a folder in TMPDIR)
#
# Works on a fresh Debian 12, as root or as a user with sudo: packages that are missing are installed first. Each client is fetched
# from its registry by the tool of its ecosystem (Maven, go, npm), in the version its folder names, and gets a server of its own on
# loopback, with free ports and an empty folder. A client that cannot be fetched or built, and a case without a result, are
# failures. What a program prints with Apache RocketMQ's servers is compared with what it prints with escrowd; DIFFERENCES.md says
# what may differ. Leaves no process and no file behind, also when interrupted.
# Exit status: 0 every case is ok, 1 some are not, 2 usage.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/tests/interop
clients=(c java-4.9 java-5 java-5-tls mqadmin-4.9 mqadmin-5 go node python spring-2.2 spring-2.3 cloud-2021 cloud-2023
    c-rocketmq java-4.9-rocketmq java-5-rocketmq mqadmin-4.9-rocketmq mqadmin-5-rocketmq go-rocketmq node-rocketmq python-rocketmq spring-2.2-rocketmq
    spring-2.3-rocketmq cloud-2021-rocketmq cloud-2023-rocketmq copy-rocketmq) # X-rocketmq: the program of X, with Apache RocketMQ's servers
build=
keep=no
list=no
only=()
jobs=3

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=${2:?} && shift ;;
    --only) only+=("${2:?}") && shift ;;
    --jobs) jobs=${2:?} && shift ;;
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
declare -A running=() # names, by process id
declare -A begun=() seconds=() # by name

finish() {
    local status=$? pid
    trap '' INT TERM HUP
    [ -z "$group" ] || end "-$group"
    for pid in "${!running[@]}"; do
        kill -TERM "$pid" 2>/dev/null || :
    done
    for pid in "${!running[@]}"; do
        until_true 40 is_gone "$pid" || kill -KILL "$pid" || : # it ends what it started, 15 seconds each
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

# One client in the background, as a process that ends its own.
start_client() { # NAME
    INTEROP_BUILD=$([ "$list" = yes ] || echo "$build") "$here/run_client.sh" "$1" "$work" "${only[@]}" </dev/null &
    running[$!]=$1
    begun[$1]=$SECONDS
    say "$1: started"
}

# Wait for one of them to end, and print what it has to say.
await_client() {
    local pid status=0 name
    wait -n -p pid "${!running[@]}" || status=$?
    name=${running[$pid]}
    unset "running[$pid]"
    seconds[$name]=$((SECONDS - begun[$name]))
    [ "$status" -eq 0 ] || echo "FAIL client: run_client.sh ended with status $status" >>"$work/$name/results"
    if [ "$list" = yes ] && [ ! -f "$work/$name/results" ]; then
        sed "s|^|$name/|" "$work/$name/wanted"
        return
    fi
    sed "s|^|$name: |" "$work/$name/results"
    if grep -q '^FAIL' "$work/$name/results" && [ "$keep" = no ] && [ -f "$work/$name/output.log" ]; then
        grep -avE '^(ok|FAIL|note) ' "$work/$name/output.log" | tail -n 60 >&2 || :
    fi
}

for name in "${only[@]}"; do
    case " ${clients[*]} " in
    *" ${name%%/*} "*) ;;
    *) say "tests/interop: no client '${name%%/*}'" && exit 2 ;;
    esac
done
[ -z "$build" ] || build=$(cd "$build" && pwd)
"$root/tests/lib/install_packages.sh" build interop >&2
[ -n "$build" ] || [ "$list" = yes ] || build_escrowd
[ "$list" = no ] || jobs=1 # in this order
for name in "${clients[@]}"; do
    is_wanted "$name" || continue
    [ ${#running[@]} -lt "$jobs" ] || await_client
    start_client "$name"
done
while [ ${#running[@]} -gt 0 ]; do
    await_client
done

# What a program printed with escrowd and with Apache RocketMQ's servers.
for name in "${clients[@]}"; do
    if [ ! -f "$work/$name/output.log" ] || [ ! -f "$work/$name-rocketmq/output.log" ]; then
        continue
    fi
    "$here/compare.py" both "$work/$name" "$work/$name-rocketmq" >"$work/$name/both" || echo "FAIL compare: compare.py failed" >>"$work/$name/both"
    sed "s|^|$name-rocketmq: |" "$work/$name/both"
    cat "$work/$name/both" >>"$work/$name-rocketmq/results"
done

# What a program twice could not do with Apache RocketMQ's servers, and did with escrowd, is told and is no failure of escrowd's: a
# busy machine is enough for it. Not when a row of DIFFERENCES.md speaks of it, nor when it is more than a few of a client.
pardon() { # NAME of the client with escrowd
    local case_ theirs=$work/$1-rocketmq
    [ -f "$work/$1/results" ] && [ -f "$theirs/results" ] && [ -f "$theirs/output.log" ] || return 0
    [ "$(grep -c '^FAIL' "$theirs/results")" -le 3 ] || return 0
    while read -r case_; do
        if grep -q "^again $case_:" "$theirs/results" && grep -q "^ok $case_\$" "$work/$1/results" &&
            grep -aq "^FAIL $case_:" "$theirs/output.log" && ! grep -q "^FAIL $case_: .* (FAIL" "$theirs/results"; then
            sed -i "s/^FAIL $case_:/unsteady $case_:/" "$theirs/results"
        fi
    done < <(sed -n 's/^FAIL \([^:]*\):.*/\1/p' "$theirs/results")
}
for name in "${clients[@]}"; do
    pardon "$name"
done

[ "$list" = yes ] || printf '\n%-20s %5s %7s %7s %7s %8s\n' client ok differs again failed seconds
failed=0
for name in "${clients[@]}"; do
    [ -f "$work/$name/results" ] || continue
    bad=$(grep -c '^FAIL' "$work/$name/results" || :)
    printf '%-20s %5d %7d %7d %7d %8d\n' "$name" "$(grep -c '^ok' "$work/$name/results" || :)" \
        "$(grep -c '^differs' "$work/$name/results" || :)" "$(grep -c '^again' "$work/$name/results" || :)" "$bad" "${seconds[$name]}"
    failed=$((failed + bad))
done
for name in "${clients[@]}"; do
    [ ! -f "$work/$name/results" ] || sed -n "s|^FAIL |$name/|p" "$work/$name/results"
done
for name in "${clients[@]}"; do
    [ ! -f "$work/$name/results" ] || sed -n "s|^unsteady \(.*\)|$name/\1 (twice with Apache RocketMQ's servers, not with escrowd: no failure)|p" "$work/$name/results"
done
[ "$failed" -eq 0 ]
