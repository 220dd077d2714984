#!/usr/bin/env bash
# escrow copy is broken off at every request that it makes of the target: before the target has it, and when it has been done and its
# answer is lost. Whatever came before, the next copy goes on, and in the end everything is there once, in its order.
#
# usage: test_cut.sh ESCROW ESCROWD
# Prints every check that fails, and the brokers' logs then. Exit status 0 only if none failed.
set -euo pipefail

escrow=$1
escrowd=$2
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/cli_checks.sh
. "$here/../../lib/cli_checks.sh"
wire() { python3 "$here/wire.py" "$@"; }

start_escrowd old --namesrv.port 0 --broker.name old
old=$broker from=$namesrv
start_escrowd new --namesrv.port 0 --broker.name new
new=$broker
export ESCROW_NAMESRV=$namesrv

expect 0 topics create cut --queues 2 --namesrv "$from"
wire "$old" send-batch cut 0 0 20 50
wire "$old" send-batch cut 1 0 20 50
expect 0 consume cut --namesrv "$from" --group readers --count 25

# More than one batch each time: 1000 messages are in the largest.
sent=20
status=1
for ((request = 1; status != 0; request++)); do
    for when in before after; do
        wire "$old" send-batch cut $((request % 2)) "$sent" 1100 20
        sent=$((sent + 1100))
        listen proxy python3 "$here/proxy.py" "$new" cut "$request" "$when"
        status=0
        "$escrow" copy --from "$from" --addr "$at" --topic cut --timeout 60s >"$work/out" 2>"$work/err" </dev/null || status=$?
        checks=$((checks + 1))
        case $status in
        0) end proxy KILL ;;
        1)
            wait "${pids[proxy]}" || fault "the proxy failed: $(cat "$work/proxy.log")"
            unset 'pids[proxy]'
            grep -Eq '^escrow: copy: .*(ESCROW_ECONN|ESCROW_ECLOSED)' "$work/err" || fault "request $request, $when: $(cat "$work/err")"
            ;;
        *) fault "request $request, $when: status $status: $(cat "$work/err")" ;;
        esac
    done
done
echo "$request requests"
[ "$request" -gt 15 ] || fault "only $request requests: nothing was cut"

expect 0 copy --from "$from" --topic cut
"$escrow" consume cut --addr "$old" | cut -d' ' -f1 >"$work/source"
"$escrow" consume cut --addr "$new" | cut -d' ' -f1 >"$work/target"
is "$(wc -l <"$work/target")" $(($(wc -l <"$work/source") - 25)) # which the one group has consumed
for queue in 0 1; do
    grep "^cut/$queue/" "$work/target" >"$work/copied"
    grep "^cut/$queue/" "$work/source" | tail -n "$(wc -l <"$work/copied")" >"$work/wanted"
    checks=$((checks + 1))
    cmp -s "$work/wanted" "$work/copied" || fault "queue $queue: $(diff "$work/wanted" "$work/copied" | head -n 4)"
done
is "$("$escrow" consume cut --group readers --addr "$new" | sort | cksum)" \
    "$("$escrow" consume cut --group readers --addr "$old" --namesrv "$from" | sort | cksum)"

for name in new old; do
    end "$name" TERM
done
report
