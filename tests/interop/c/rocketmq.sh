#!/usr/bin/env bash
# Start Apache RocketMQ's name server and broker on loopback, and run until ended; prints "ready HOST:PORT" (the name server) when
# both answer. usage: rocketmq.sh LIBRARIES FOLDER
# Half messages are asked about early, logs and files are small, everything is below FOLDER.
set -euo pipefail

# shellcheck source=tests/interop/lib.sh
. "$(dirname "$0")/../lib.sh"
libraries=$1
folder=$2
mkdir -p "$folder/conf"
pids=()
finish() {
    trap '' INT TERM
    [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || :
}
trap finish EXIT
trap 'exit 143' INT TERM

# A free port for the name server; one for the broker, which also takes those two below and one above.
free_ports() {
    python3 - <<'PYTHON'
import socket
def free(first, *others):
    sockets = []
    try:
        for offset in (0,) + others:
            s = socket.socket()
            sockets.append(s)
            s.bind(("127.0.0.1", first + offset if offset or first else 0))
            first = first or s.getsockname()[1]
        return first
    except (OSError, OverflowError):
        return None
    finally:
        for s in sockets:
            s.close()
broker = None
while broker is None:
    broker = free(0, -2, 1)
name_server = broker
while name_server in (broker, broker - 2, broker + 1):
    name_server = free(0)
print(name_server, broker)
PYTHON
}
ports=$(free_ports)
name_port=${ports% *}
port=${ports#* }

cat >"$folder/namesrv.conf" <<CONF
listenPort=$name_port
CONF
cat >"$folder/broker.conf" <<CONF
brokerName=apache-a
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
enablePropertyFilter=true
diskMaxUsedSpaceRatio=99
CONF

start() { # CLASS CONFIGURATION
    java -Xmx400m -Xms64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:MaxDirectMemorySize=256m -Drocketmq.home.dir="$folder" \
        -Duser.home="$folder" -cp "$libraries/*" "org.apache.rocketmq.$1" -c "$2" >"$folder/$2.log" 2>&1 &
    pids+=($!)
}
has_booted_or_ended() { # LOG
    grep -q 'boot success' "$1" || is_gone "${pids[-1]}"
}
await() { # LOG
    if ! until_true 60 has_booted_or_ended "$1" || ! grep -q 'boot success' "$1"; then
        tail -n 20 "$1" >&2
        exit 1
    fi
}
cd "$folder"
start namesrv.NamesrvStartup namesrv.conf
await namesrv.conf.log
start broker.BrokerStartup broker.conf
await broker.conf.log
echo "ready 127.0.0.1:$name_port"
wait
