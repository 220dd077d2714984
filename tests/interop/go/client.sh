#!/usr/bin/env bash
# The Go client: prepare | list | run CASE... ; run.sh sets INTEROP_WORK, INTEROP_NAMESRV, INTEROP_BROKER.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
program=$INTEROP_WORK/interop
case $1 in
prepare) cd "$here" && go build -o "$program" . && mkdir -p "$INTEROP_WORK/home" ;;
list) exec "$program" list ;;
run) shift && HOME=$INTEROP_WORK/home exec "$program" run "$INTEROP_NAMESRV" "$INTEROP_BROKER" "$@" ;; # it keeps offsets there
esac
