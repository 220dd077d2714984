#!/usr/bin/env bash
# escrow copy from Apache RocketMQ: prepare | list | run CASE... ; run_client.sh sets INTEROP_WORK, INTEROP_BUILD, INTEROP_NAMESRV,
# INTEROP_BROKER (of 5.5.0). Cases named ...-4.9 are the same again from 4.9.4, the last of 4.x whose broker is published.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/interop/lib.sh
. "$here/../lib.sh"
server=

case $1 in
prepare)
    [ -n "$INTEROP_BUILD" ] || exit 0 # --list
    cmake --build "$INTEROP_BUILD" --target escrow_cli escrowd
    mvn -q -B -f "$here/../rocketmq/pom.xml" -Drocketmq.version=4.9.4 -Dlibraries="$INTEROP_WORK/rocketmq-4.9" dependency:copy-dependencies
    ;;
list)
    names=$(sed -n 's/^def case_\([a-z_]*\)(.*/\1/p' "$here/main.py" | tr _ -)
    printf '%s\n' "$names" "${names//$'\n'/-4.9$'\n'}-4.9"
    ;;
run)
    shift
    old=()
    new=()
    for name; do
        case $name in *-4.9) old+=("$name") ;; *) new+=("$name") ;; esac
    done
    [ ${#new[@]} -eq 0 ] || python3 "$here/main.py" "${new[@]}"
    [ ${#old[@]} -gt 0 ] || exit 0
    data=$INTEROP_WORK/data-4.9
    mkdir -p "$data/conf"
    for name in namesrv broker; do
        echo '<configuration/>' >"$data/conf/logback_$name.xml"
    done
    # 4.9 was made for Java 8.
    JAVA_TOOL_OPTIONS=$(printf -- '--add-opens=java.base/%s=ALL-UNNAMED ' sun.nio.ch java.nio jdk.internal.ref) \
        "$here/../rocketmq/start.sh" "$INTEROP_WORK/rocketmq-4.9" "$data" >"$INTEROP_WORK/rocketmq-4.9.log" 2>&1 &
    server=$!
    trap 'end "$server"' EXIT
    until_true 120 grep -q '^ready ' "$INTEROP_WORK/rocketmq-4.9.log" || {
        tail -n 20 "$INTEROP_WORK/rocketmq-4.9.log" >&2
        exit 1
    }
    read -r INTEROP_NAMESRV INTEROP_BROKER < <(sed -n 's/^ready //p' "$INTEROP_WORK/rocketmq-4.9.log")
    export INTEROP_NAMESRV INTEROP_BROKER
    python3 "$here/main.py" "${old[@]}"
    ;;
esac
