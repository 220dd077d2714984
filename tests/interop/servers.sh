# The servers of one client. Sourced by run_client.sh, which sets name, folder, work, here and INTEROP_BUILD.
# shellcheck shell=bash disable=SC2154

servers=() # their process ids

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

# For the servers, and for the clients that client.sh starts.
need_certificates() {
    [ -d "$work/certificates" ] || make_certificates "$work/certificates" >"$work/openssl.log" 2>&1 || {
        tail -n 20 "$work/openssl.log" >&2
        return 1
    }
}

# Starts an escrowd for a client. Half messages are asked about early, so that nobody waits long.
# KIND: plain; tls: takes nothing else, and wants the client's certificate; keys: wants requests signed by a user of users.conf
# (inside TLS, too, if the client's name ends in -tls).
start_escrowd() { # KIND FOLDER
    local certs=$work/certificates options=()
    if [ "$1" = keys ]; then
        install -m 600 "$here/users.conf" "$2/users.conf"
        options+=(--acl.file "$2/users.conf")
    fi
    if [ "$1" = tls ] || [ "${name%-tls}" != "$name" ]; then
        need_certificates || return 1
        options+=(--tls.mode enforcing --tls.cert.file "$certs/server.pem" --tls.key.file "$certs/server.key"
            --tls.ca.file "$certs/ca.pem" --tls.client.cert required)
    fi
    setarch -R "$INTEROP_BUILD/src/broker/escrowd" --data.dir "$2/data" --broker.port 0 --broker.vip.port 0 --namesrv.port 0 \
        --txn.timeout.ms 1000 --txn.check.interval.ms 1000 "${options[@]}" >"$2/escrowd.log" 2>&1 &
    servers+=($!)
}

# Waits for it, and sets namesrv and broker.
await_escrowd() { # FOLDER
    local log=$1/escrowd.log
    until_true 60 grep -q ' ready ' "$log" || {
        tail -n 20 "$log" >&2
        return 1
    }
    broker=$(sed -n 's/.* broker listens on //p' "$log")
    namesrv=$(sed -n 's/.* name server listens on //p' "$log")
}

# The same with Apache RocketMQ's name server and broker.
start_rocketmq() { # KIND FOLDER
    local kind=()
    case $1 in
    tls) need_certificates && kind=(tls "$work/certificates") ;;
    keys) kind=(keys "$here/users.conf") ;;
    esac || return 1
    "$here/rocketmq/start.sh" "$folder/rocketmq" "$2/data" "${kind[@]}" >"$2/rocketmq.log" 2>&1 &
    servers+=($!)
}

await_rocketmq() { # FOLDER
    local log=$1/rocketmq.log
    until_true 400 grep -q '^ready ' "$log" || {
        tail -n 20 "$log" >&2
        return 1
    }
    read -r namesrv broker < <(sed -n 's/^ready //p' "$log")
}

# Starts what a client's cases need, side by side, and exports where it listens. A client whose name ends in -rocketmq gets Apache
# RocketMQ's own servers, one in -tls a server that takes nothing else. Cases named tls..., access-keys... have servers of their own
# (INTEROP_TLS, INTEROP_KEYS: name server and broker); when there are no others, no more is started.
start_server() { # CASE...
    local what=escrowd case_ kinds=() kind namesrv='' broker=''
    [ "${name%-rocketmq}" = "$name" ] || what=rocketmq
    export INTEROP_TLS='' INTEROP_KEYS='' INTEROP_NAMESRV=none INTEROP_BROKER=none
    for case_; do
        case $case_ in tls*) kind=tls ;; access-keys*) kind=keys ;; *) kind=plain ;; esac
        case " ${kinds[*]} " in *" $kind "*) ;; *) kinds+=("$kind") ;; esac
    done
    for kind in "${kinds[@]}"; do
        mkdir -p "$work/server-$kind"
        "start_$what" "$kind" "$work/server-$kind" || return 1
    done
    for kind in "${kinds[@]}"; do
        "await_$what" "$work/server-$kind" || return 1
        case $kind in
        tls) INTEROP_TLS="$namesrv $broker" ;;
        keys) INTEROP_KEYS="$namesrv $broker" ;;
        plain) INTEROP_NAMESRV=$namesrv INTEROP_BROKER=$broker ;;
        esac
    done
}

# A server that does not stop cleanly (a sanitizer's finding, too) is a failure of its own.
stop_server() {
    local one status bad=0
    for one in "${servers[@]}"; do
        status=0
        kill -TERM "$one" 2>/dev/null || :
        until_true 60 is_gone "$one" || kill -KILL "$one" || :
        wait "$one" || status=$?
        [ "$status" -eq 0 ] || bad=$status
    done
    servers=()
    if [ "${name%-rocketmq}" != "$name" ]; then
        return # not ours
    fi
    if [ "$bad" -eq 0 ]; then
        echo "ok server-stops-cleanly"
    else
        tail -n 30 "$work"/server-*/escrowd.log >&2 || :
        echo "FAIL server-stops-cleanly: exit status $bad"
    fi
}
