#!/usr/bin/env bash
# The Java clients: prepare | list | run CASE... ; run.sh sets INTEROP_CLIENT, INTEROP_WORK, INTEROP_NAMESRV, INTEROP_BROKER.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
sources=("$here"/interop/*.java)
case $INTEROP_CLIENT in
java-4.9) version=4.9.8 ;;
java-5 | java-5-tls) version=5.5.0 && sources+=("$here"/five/*.java) ;;
*) echo "unknown client $INTEROP_CLIENT" >&2 && exit 2 ;;
esac
libraries=$INTEROP_WORK/libraries
classes=$INTEROP_WORK/classes

# Also for the processes that cases start. Inside TLS the client checks the server's certificate and shows its own.
certs=$INTEROP_WORK/certificates
if [ -d "$certs" ] && [ "$1" = run ]; then
    export JAVA_TOOL_OPTIONS="-Dtls.test.mode.enable=false -Dtls.client.authServer=true
        -Dtls.client.trustCertPath=$certs/ca.pem -Dtls.client.certPath=$certs/client.pem -Dtls.client.keyPath=$certs/client.key"
    case $INTEROP_CLIENT in *-tls) JAVA_TOOL_OPTIONS+=" -Dtls.enable=true" ;; esac
fi

# user.home: the client's logs and the offsets of broadcast groups are written there.
java_main() {
    exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Duser.home="$INTEROP_WORK/home" -cp "$classes:$libraries/*" interop.Main "$@"
}

case $1 in
prepare)
    mvn -q -B -f "$here/pom.xml" -Drocketmq.version="$version" -Dlibraries="$libraries" dependency:copy-dependencies
    mkdir -p "$classes" "$INTEROP_WORK/home"
    javac -nowarn -proc:none -Xlint:-options -encoding UTF-8 -cp "$libraries/*" -d "$classes" "${sources[@]}"
    ;;
list) java_main list ;;
run) shift && java_main run "$INTEROP_NAMESRV" "$INTEROP_BROKER" "$@" ;;
esac
