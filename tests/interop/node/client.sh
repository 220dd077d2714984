#!/usr/bin/env bash
# The Node client: prepare | list | run CASE... ; run.sh sets INTEROP_WORK, INTEROP_NAMESRV, INTEROP_BROKER.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
case $1 in
prepare)
    cp "$here"/package.json "$here"/package-lock.json "$here"/main.js "$INTEROP_WORK"
    mkdir -p "$INTEROP_WORK/home"
    npm ci --prefix "$INTEROP_WORK" --ignore-scripts --no-audit --no-fund
    ;;
list) exec node "$INTEROP_WORK/main.js" list ;;
run) shift && HOME=$INTEROP_WORK/home exec node "$INTEROP_WORK/main.js" run "$INTEROP_NAMESRV" "$INTEROP_BROKER" "$@" ;; # offsets of broadcast groups
esac
