#!/usr/bin/env bash
# examples/04_pg_transaction.c with a private PostgreSQL and escrowd: a debit that commits is heard of, one that the table
# refuses is not.
#
# usage: test_example_pg.sh EXAMPLE ESCROWD ESCROW_RELAY ESCROW POSTGRES_SH
set -euo pipefail

example=$1 escrowd=$2 relay=$3 cli=$4 postgres=$5
folder=$(mktemp -d "${TMPDIR:-/tmp}/escrow-example-XXXXXX")
chmod 755 "$folder"
mkdir "$folder/pg"
pid=

cleanup() {
    local status=$?
    trap - EXIT
    if [ -n "$pid" ]; then
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    bash "$postgres" kill "$folder/pg" >/dev/null 2>&1 || true
    [ "$status" -eq 0 ] || cat "$folder"/*.log >&2 || true
    rm -rf "$folder"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() {
    echo "test_example_pg: $*" >&2
    exit 1
}
is() { [ "$1" = "$2" ] || fail "expected '$2', got '$1'"; }

db=$(bash "$postgres" start "$folder/pg" fsync=off)
"$relay" migrate --db "$db" >"$folder/migrate.log"
sql() { psql -qXAt -v ON_ERROR_STOP=1 -d "$db" -c "$1"; }
sql "CREATE TABLE account (id int PRIMARY KEY, cents int CHECK (cents >= 0)); INSERT INTO account VALUES (1, 100)"

mkfifo "$folder/never"
"$escrowd" --data.dir "$folder/data" --broker.port 0 --broker.vip.port 0 --namesrv.port 0 --log.segment.bytes 16m \
    >"$folder/escrowd.log" 2>&1 &
pid=$!
for ((i = 0; i < 600; i++)); do
    ! grep -q ' ready ' "$folder/escrowd.log" || break
    kill -0 "$pid" || fail "escrowd did not start"
    read -r -t 0.05 <>"$folder/never" || true
done
servers=$(sed -n 's/.*name server listens on //p' "$folder/escrowd.log")
export ESCROW_NAMESRV=$servers

is "$("$example" "$servers" "$db" Debits 30)" committed
is "$("$example" "$servers" "$db" Debits 80 2>"$folder/refused.log")" "rolled back"
grep -q account_cents_check "$folder/refused.log" || fail "the refusal is not explained"
is "$("$example" "$servers" "$db" Debits 70)" committed
is "$(sql 'SELECT cents FROM account')" 0

# The decisions are on their way: until the broker has them all, nothing may be missing for good.
for ((i = 0; i < 600; i++)); do
    [ "$("$cli" transactions)" != none ] || break
    read -r -t 0.05 <>"$folder/never" || true
done
is "$("$cli" consume Debits | sort -n | tr '\n' ' ')" "30 70 "

status=0
"$example" >/dev/null 2>&1 || status=$?
is "$status" 2
status=0
"$example" "$servers" "host=/nowhere" Debits 1 >/dev/null 2>&1 || status=$?
is "$status" 1
kill -TERM "$pid"
wait "$pid" || fail "escrowd did not stop cleanly"
pid=
echo "test_example_pg: all is well"
