#!/usr/bin/env bash
# mqadmin (rocketmq-tools): prepare | list | run CASE... ; run.sh sets INTEROP_CLIENT, INTEROP_WORK, INTEROP_NAMESRV, INTEROP_BROKER.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
case $INTEROP_CLIENT in
mqadmin-4.9) version=4.9.8 ;;
mqadmin-5) version=5.5.0 ;;
*) echo "unknown client $INTEROP_CLIENT" >&2 && exit 2 ;;
esac
libraries=$INTEROP_WORK/libraries
classes=$INTEROP_WORK/classes
home=$INTEROP_WORK/home
shared=("$here"/../java/interop/{Case,Runner,Kit,Inbox}.java)

# user.home: the client's logs are written there. rocketmq.home.dir: mqadmin 4.9 reads how to log from it.
java_main() {
    exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Duser.home="$home" -Drocketmq.home.dir="$home" \
        -cp "$classes:$libraries/*" interop.MqadminMain "$@"
}

case $1 in
prepare)
    mvn -q -B -f "$here/../java/pom.xml" -Drocketmq.version="$version" -Dlibraries="$libraries" dependency:copy-dependencies
    mkdir -p "$classes" "$home/conf"
    echo '<configuration><root level="OFF"/></configuration>' >"$home/conf/logback_tools.xml"
    javac -nowarn -proc:none -Xlint:-options -encoding UTF-8 -cp "$libraries/*" -d "$classes" "$here"/interop/*.java "${shared[@]}"
    ;;
list) java_main list ;;
run) shift && java_main run "$INTEROP_NAMESRV" "$INTEROP_BROKER" "$@" ;;
esac
