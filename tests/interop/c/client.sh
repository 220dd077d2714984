#!/usr/bin/env bash
# libescrow: prepare | list | run CASE... ; run.sh sets INTEROP_WORK, INTEROP_BUILD, INTEROP_NAMESRV.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)

case $1 in
prepare)
    [ -n "$INTEROP_BUILD" ] || exit 0 # --list
    cmake --build "$INTEROP_BUILD" --target escrow
    sanitize=$(sed -n 's/^ESCROW_SANITIZE:STRING=//p' "$INTEROP_BUILD/CMakeCache.txt")
    cc -g -std=gnu11 -Wall -Wextra -Werror ${sanitize:+"-fsanitize=$sanitize"} -I "$root" -I "$root/core/include" "$here"/*.c \
        -o "$INTEROP_WORK/cases" -L "$INTEROP_BUILD/src/client" -lescrow -Wl,-rpath,"$INTEROP_BUILD/src/client" -lpthread
    ;;
list) sed -n 's/^    {"\([a-z0-9-]*\)", case_[a-z0-9_]*},$/\1/p' "$here/main.c" ;;
run) shift && printf '%s\n' "$@" | xargs -P 6 -n 1 setarch -R "$INTEROP_WORK/cases" "$INTEROP_NAMESRV" ;; # they wait most of the time
esac
