#!/usr/bin/env bash
# Start Apache RocketMQ's name server and broker on loopback, and run until ended; prints "ready HOST:PORT HOST:PORT" (the name server,
# the broker) when both answer.
# usage: start.sh LIBRARIES FOLDER [tls CERTIFICATES | keys USERS]
#   tls   they take nothing but TLS, and want certificates of clients. CERTIFICATES: a folder with ca.pem and with certificates and keys
#         of `server` and `client`
#   keys  the broker wants requests signed by the users of the file USERS, as escrowd reads it; `owner` is the one that it knows from the start.
#         RocketMQ's name server lets everybody ask
# They are set like the escrowd that run.sh starts: the names of broker and cluster, half messages are asked about early, SQL filters and
# traces are on, a busy machine is no reason to refuse. Files are small, everything is below FOLDER.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/interop/lib.sh
. "$here/../lib.sh"
libraries=$1
folder=$2
kind=${3:-plain}
what=${4:-}
mkdir -p "$folder/conf"
pids=()
finish() {
    trap '' INT TERM
    [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || :
}
trap finish EXIT
trap 'exit 143' INT TERM

# A free port for the name server; one for the broker, which also takes those two below and one above. None that the system gives to
# clients: the servers take them seconds later.
free_ports() {
    python3 - <<'PYTHON'
import random, socket
def free(first, *others):
    sockets = []
    try:
        for offset in (0,) + others:
            s = socket.socket()
            sockets.append(s)
            s.bind(("127.0.0.1", first + offset))
        return first
    except (OSError, OverflowError):
        return None
    finally:
        for s in sockets:
            s.close()
broker = None
while broker is None:
    broker = free(random.randrange(10000, 30000), -2, 1)
name_server = None
while name_server in (None, broker, broker - 2, broker + 1):
    name_server = free(random.randrange(10000, 30000))
print(name_server, broker)
PYTHON
}
ports=$(free_ports)
name_port=${ports% *}
port=${ports#* }

cat >"$folder/namesrv.conf" <<CONF
listenPort=$name_port
orderMessageEnable=true
CONF
cat >"$folder/broker.conf" <<CONF
brokerName=escrow-a
brokerClusterName=DefaultCluster
brokerId=0
brokerIP1=127.0.0.1
listenPort=$port
haListenPort=$((port + 1))
namesrvAddr=127.0.0.1:$name_port
storePathRootDir=$folder/store
storePathCommitLog=$folder/store/commitlog
mappedFileSizeCommitLog=16777216
mappedFileSizeConsumeQueue=60000
mappedFileSizeTimerLog=1048576
maxIndexNum=10000
maxHashSlotNum=2000
timerPrecisionMs=100
timerMaxDelaySec=3600
transactionTimeOut=1000
transactionCheckInterval=1000
transactionOpBatchInterval=100
enablePropertyFilter=true
recallMessageEnable=true
traceTopicEnable=true
waitTimeMillsInSendQueue=10000
osPageCacheBusyTimeOutMills=10000
diskMaxUsedSpaceRatio=99
CONF

options=()
if [ "$kind" = tls ]; then
    for name in server client; do
        options+=("-Dtls.$name.certPath=$what/$name.pem" "-Dtls.$name.keyPath=$what/$name.key" "-Dtls.$name.trustCertPath=$what/ca.pem")
    done
    options+=(-Dtls.test.mode.enable=false -Dtls.server.mode=enforcing -Dtls.server.need.client.auth=require -Dtls.server.authClient=true
        -Dtls.client.authServer=true -Dtls.config.file="$folder/none")
elif [ "$kind" = keys ]; then
    cat >>"$folder/broker.conf" <<CONF
authenticationEnabled=true
authenticationProvider=org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider
authenticationMetadataProvider=org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider
authorizationEnabled=true
authorizationProvider=org.apache.rocketmq.auth.authorization.provider.DefaultAuthorizationProvider
authorizationMetadataProvider=org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider
initAuthenticationUser={"username":"owner-access","password":"owner-secret"}
innerClientAuthenticationCredentials={"accessKey":"broker-access","secretKey":"broker-secret"}
CONF
fi

start() { # CLASS CONFIGURATION
    java -Xmx400m -Xms64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:MaxDirectMemorySize=1g "${options[@]}" -Drocketmq.home.dir="$folder" \
        -Duser.home="$folder" -cp "$libraries/*" "org.apache.rocketmq.$1" -c "$2" >"$folder/$2.log" 2>&1 &
    pids+=($!)
}
has_booted_or_ended() { # LOG
    grep -q 'boot success' "$1" || is_gone "${pids[-1]}"
}
await() { # LOG
    if ! until_true 180 has_booted_or_ended "$1" || ! grep -q 'boot success' "$1"; then
        tail -n 20 "$1" >&2
        exit 1
    fi
}
# Has the broker made itself known? It does so a moment after it says that it runs.
has_route() {
    local certificates=()
    [ "$kind" != tls ] || certificates=("$what")
    python3 "$here/ask.py" "$name_port" route "${certificates[@]}"
}
cd "$folder"
start namesrv.NamesrvStartup namesrv.conf
await namesrv.conf.log
start broker.BrokerStartup broker.conf
await broker.conf.log
until_true 60 has_route || {
    echo "the broker did not make itself known" >&2
    exit 1
}
[ "$kind" != keys ] || python3 "$here/ask.py" "$port" users "$what" owner-access owner-secret || exit 1
echo "ready 127.0.0.1:$name_port 127.0.0.1:$port"
wait
