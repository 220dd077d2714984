#!/usr/bin/env bash
# Clients in a Spring Boot application: prepare | list | run CASE... ; run.sh sets INTEROP_CLIENT, INTEROP_WORK, INTEROP_NAMESRV, INTEROP_BROKER.
# spring-*: rocketmq-spring-boot-starter. cloud-*: Spring Cloud Stream with the RocketMQ binder of Spring Cloud Alibaba.
set -euo pipefail

root=$(cd "$(dirname "$0")" && pwd)
case $INTEROP_CLIENT in
spring-2.2) main=SpringMain versions=(-Dboot.version=2.7.18 -Dstarter.version=2.2.3) ;;
spring-2.3) main=SpringMain versions=(-Dboot.version=3.4.13 -Dstarter.version=2.3.5) ;;
cloud-2021) main=CloudMain versions=(-Dboot.version=2.7.18 -Dcloud.version=2021.0.9 -Dalibaba.version=2021.0.6.2) ;;
cloud-2023) main=CloudMain versions=(-Dboot.version=3.2.12 -Dcloud.version=2023.0.6 -Dalibaba.version=2023.0.3.3) ;;
*) echo "unknown client $INTEROP_CLIENT" >&2 && exit 2 ;;
esac
here=$root/${INTEROP_CLIENT%%-*}
libraries=$INTEROP_WORK/libraries
classes=$INTEROP_WORK/classes
shared=("$root"/java/interop/{Case,Runner,Kit,Inbox,Child}.java)

# Also for the processes that cases start. Inside TLS the client checks the server's certificate and shows its own.
certs=$INTEROP_WORK/certificates
if [ -d "$certs" ] && [ "$1" = run ]; then
    export JAVA_TOOL_OPTIONS="-Dtls.test.mode.enable=false -Dtls.client.authServer=true
        -Dtls.client.trustCertPath=$certs/ca.pem -Dtls.client.certPath=$certs/client.pem -Dtls.client.keyPath=$certs/client.key"
fi

# user.home: the client's logs and the offsets of broadcast groups are written there.
java_main() {
    exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Duser.home="$INTEROP_WORK/home" -cp "$classes:$libraries/*" "interop.$main" "$@"
}

case $1 in
prepare)
    mvn -q -B -f "$here/pom.xml" "${versions[@]}" -Dlibraries="$libraries" dependency:copy-dependencies
    mkdir -p "$classes" "$INTEROP_WORK/home"
    javac -nowarn -proc:none -parameters -Xlint:-options -encoding UTF-8 -cp "$libraries/*" -d "$classes" "$here"/interop/*.java \
        "${shared[@]}"
    ;;
list) java_main list ;;
run) shift && java_main run "$INTEROP_NAMESRV" "$INTEROP_BROKER" "$@" ;;
esac
