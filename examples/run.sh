#!/usr/bin/env bash
# The money transfer: service A debits, service B credits, and everything is killed at random meanwhile. At the end the books
# of both databases must balance.
#
# usage: examples/run.sh
# Installs what is missing from Debian's packages, builds Release, and runs: a private PostgreSQL (unix socket, never as root),
# escrowd, escrow-relay, order_service and payment_service. Everything lives in a temporary folder that is removed at the end,
# also after an interrupt. Works as root, or as a user with sudo.
# Environment:
#   ESCROW_BUILD_DIR   build folder                        (build)
#   ESCROW_TRANSFERS   transfers on each of the two paths  (2200)
#   ESCROW_KILLS       SIGKILLs, at least                  (24)
# Exit status 0 only if the books balance.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${ESCROW_BUILD_DIR:-build}
transfers=${ESCROW_TRANSFERS:-2200}
kills_wanted=${ESCROW_KILLS:-24}
accounts=100
opening=1000000
folder=
declare -A pid_of kills_of
kills=0

say() { printf '%s\n' "$*"; }
die() {
    printf 'examples/run.sh: %s\n' "$*" >&2
    exit 1
}

# ---- the end, however it comes

cleanup() {
    local status=$? name
    trap - EXIT INT TERM
    set +e
    for name in "${!pid_of[@]}"; do
        kill -KILL "${pid_of[$name]}" 2>/dev/null
        wait "${pid_of[$name]}" 2>/dev/null
    done
    if [ -n "$folder" ]; then
        [ -d "$folder/pg/data" ] && tests/lib/postgres.sh stop "$folder/pg" >/dev/null 2>&1
        if [ "$status" -ne 0 ] && [ -n "${ESCROW_KEEP_LOGS:-}" ]; then
            mkdir -p "$ESCROW_KEEP_LOGS" && cp "$folder"/*.log "$ESCROW_KEEP_LOGS"/
        fi
        rm -rf "$folder"
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- install and build

tests/lib/install_packages.sh build test
say "building (Release, folder $build) ..."
if ! { cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DESCROW_TESTS=OFF >/dev/null &&
    cmake --build "$build" --target escrowd escrow-relay escrow_cli order_service payment_service >"$build/build.log" 2>&1; }; then
    tail -n 30 "$build/build.log" >&2
    die "the build failed"
fi
build=$(cd "$build" && pwd)
started=$(date +%s)

# ---- PostgreSQL and its two databases

folder=$(mktemp -d /tmp/escrow-transfer.XXXXXX)
chmod 711 "$folder"
pg=$(tests/lib/postgres.sh start "$folder/pg" max_connections=200 shared_buffers=64MB)
sql() { psql -X -q -At -v ON_ERROR_STOP=1 "${pg/dbname=postgres/dbname=$1}" -c "$2"; }
orders="${pg/dbname=postgres/dbname=orders}"
payments="${pg/dbname=postgres/dbname=payments}"

sql postgres "CREATE DATABASE orders"
sql postgres "CREATE DATABASE payments"
"$build/src/relay/escrow-relay" migrate --db "$orders" >"$folder/migrate.log" 2>&1 ||
    { cat "$folder/migrate.log" >&2; die "migrate failed"; }
"$build/src/relay/escrow-relay" migrate --db "$payments" >>"$folder/migrate.log" 2>&1 ||
    { cat "$folder/migrate.log" >&2; die "migrate failed"; }
sql orders "
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
INSERT INTO account SELECT i, $opening FROM generate_series(1, $accounts) i;
CREATE TABLE transfer (id int PRIMARY KEY, path text NOT NULL, debit int NOT NULL, credit int NOT NULL, amount int NOT NULL,
                       outcome text, attempts int NOT NULL DEFAULT 0);
INSERT INTO transfer (id, path, debit, credit, amount)
SELECT i, CASE WHEN i % 8 < 4 THEN 'half' ELSE 'outbox' END, 1 + floor(random() * $accounts), 1 + floor(random() * $accounts),
       1 + floor(random() * 1000)
FROM generate_series(1, 2 * $transfers) i;
CREATE INDEX ON transfer (id) WHERE outcome IS NULL;"
sql payments "
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO account SELECT i, 0 FROM generate_series(1, $accounts) i;
CREATE TABLE credit (transfer int NOT NULL, account int NOT NULL, amount int NOT NULL, at timestamptz NOT NULL DEFAULT now());"

# ---- the processes

# A port on loopback that nobody listens on now.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}
broker_port=$(free_port)
namesrv_port=$(free_port)
check_port=$(free_port)
servers=127.0.0.1:$namesrv_port

start() { # NAME
    case $1 in
    escrowd)
        "$build/src/broker/escrowd" --data.dir "$folder/data" --broker.port "$broker_port" --broker.vip.port 0 \
            --namesrv.port "$namesrv_port" --log.segment.bytes 64m --txn.timeout.ms 500 --txn.check.interval.ms 1000 \
            --callback "default=http://127.0.0.1:$check_port/check" >>"$folder/escrowd.log" 2>&1 &
        ;;
    relay)
        "$build/src/relay/escrow-relay" run --db "$orders" --broker "127.0.0.1:$broker_port" --source orders \
            --check.listen "127.0.0.1:$check_port" --backoff.max.ms 500 >>"$folder/relay.log" 2>&1 &
        ;;
    order) "$build/examples/order_service" "$orders" "$servers" >>"$folder/order.log" 2>&1 & ;;
    payment) "$build/examples/payment_service" "$payments" "$servers" >>"$folder/payment.log" 2>&1 & ;;
    esac
    pid_of[$1]=$!
}

kill_and_restart() { # NAME
    kill -KILL "${pid_of[$1]}" 2>/dev/null || die "$1 had died by itself: $(tail -n 3 "$folder/$1.log")"
    wait "${pid_of[$1]}" 2>/dev/null || true
    kills=$((kills + 1))
    kills_of[$1]=$((${kills_of[$1]:-0} + 1))
    start "$1"
}

names=(escrowd relay order payment)
for name in "${names[@]}"; do
    kills_of[$name]=0
    start "$name"
done

# ---- kill at random while transfers run

left() { sql orders "SELECT count(*) FROM transfer WHERE outcome IS NULL"; }
credited() { sql payments "SELECT count(DISTINCT transfer) FROM credit"; }
committed() { sql orders "SELECT count(*) FROM transfer WHERE outcome = 'committed'"; }
progress() {
    say "$(printf '%3d s  %5d of %d transfers decided, %5d committed, %5d credited, %2d kills' \
        $(($(date +%s) - started)) $((2 * transfers - $(left))) $((2 * transfers)) "$(committed)" "$(credited)" "$kills")"
}

say "transfers: $((2 * transfers)), half of them by half message, half by outbox; killing at random ..."
shown=0
while [ "$(left)" -gt 0 ] || [ "$kills" -lt "$kills_wanted" ]; do
    sleep "0.$((RANDOM % 4 + 1))"
    # Every process is killed; which one next is chance.
    kill_and_restart "${names[RANDOM % 4]}"
    now=$(date +%s)
    if [ "$now" -ge $((shown + 3)) ]; then
        progress
        shown=$now
    fi
    [ $((now - started)) -lt 75 ] || break
done
for name in "${names[@]}"; do
    [ "${kills_of[$name]}" -gt 0 ] || kill_and_restart "$name"
done

# ---- until everything committed is credited

say "no more kills; waiting for what is on its way ..."
deadline=$(($(date +%s) + 40))
while [ "$(left)" -gt 0 ] || [ "$(credited)" -lt "$(committed)" ]; do
    [ "$(date +%s)" -lt "$deadline" ] || break
    sleep 0.3
done
sleep 1.5 # a duplicate, if there were one, would come now
progress

# ---- reconciliation, from the two databases

attempted=$(sql orders "SELECT sum(attempts) FROM transfer")
done_half=$(sql orders "SELECT count(*) FROM transfer WHERE path = 'half' AND outcome IS NOT NULL")
done_outbox=$(sql orders "SELECT count(*) FROM transfer WHERE path = 'outbox' AND outcome IS NOT NULL")
rolled_back=$(sql orders "SELECT count(*) FROM transfer WHERE outcome = 'rolled back'")
undecided=$(left)
n_committed=$(committed)
sql payments "COPY (SELECT transfer, account, amount FROM credit ORDER BY 1) TO STDOUT" >"$folder/credits"
sql orders "CREATE TABLE credit_seen (transfer int, account int, amount int)"
sql orders "COPY credit_seen FROM STDIN" <"$folder/credits"
lost=$(sql orders "SELECT count(*) FROM transfer t WHERE outcome = 'committed' AND NOT EXISTS
    (SELECT 1 FROM credit_seen c WHERE c.transfer = t.id AND c.account = t.credit AND c.amount = t.amount)")
twice=$(sql orders "SELECT count(*) FROM (SELECT transfer FROM credit_seen GROUP BY transfer HAVING count(*) > 1) d")
ghosts=$(sql orders "SELECT count(*) FROM credit_seen c WHERE NOT EXISTS
    (SELECT 1 FROM transfer t WHERE t.id = c.transfer AND t.outcome = 'committed')")
before=$((accounts * opening))
after=$(($(sql orders "SELECT sum(balance) FROM account") + $(sql payments "SELECT sum(balance) FROM account")))

for name in order payment relay escrowd; do
    kill -TERM "${pid_of[$name]}" 2>/dev/null || true
    wait "${pid_of[$name]}" 2>/dev/null || true
    unset "pid_of[$name]"
done
by_check=$("$build/src/tools/escrow" dump "$folder/data" --json | grep -c '"by":"check"' || true)

row() { printf '  %-34s %12s   %s\n' "$1" "$2" "${3:-}"; }
say
say "reconciliation"
row "transfers attempted" "$attempted" "($done_half by half message, $done_outbox by outbox, the rest repeated after kills)"
row "committed" "$n_committed"
row "rolled back" "$rolled_back"
row "undecided" "$undecided" "must be 0"
row "decided by check-back" "$by_check" "half messages"
row "kills" "$kills" "escrowd ${kills_of[escrowd]}, relay ${kills_of[relay]}, service A ${kills_of[order]}, service B ${kills_of[payment]}"
row "lost" "$lost" "must be 0"
row "credited twice" "$twice" "must be 0"
row "credited without a debit" "$ghosts" "must be 0"
row "total money before" "$before"
row "total money after" "$after" "must be equal"
row "seconds" "$(($(date +%s) - started))"

if [ "$lost" -eq 0 ] && [ "$twice" -eq 0 ] && [ "$ghosts" -eq 0 ] && [ "$undecided" -eq 0 ] && [ "$before" -eq "$after" ] &&
    [ "$kills" -ge "$kills_wanted" ]; then
    say
    say "the books balance"
    exit 0
fi
die "THE BOOKS DO NOT BALANCE"
