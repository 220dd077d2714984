#!/usr/bin/env bash
# Measures every figure of tests/bench/README.md and prints the table in Markdown.
#
# usage: tests/bench/run.sh [--rounds N] [--seconds N] [--only NAME[,NAME...]] [--restart-messages N] [--quick] [--update-readme]
#   --rounds         alternating runs of each comparison; the median of their ratios counts (11)
#   --seconds        measured in each run (2)
#   --only           latency redis1 redis16 txn order relay drain idle halves restart
#   --restart-messages   in the store that is restarted, of 1 KiB each (5000000: 7 GB of disk)
#   --quick          2 rounds of 2 seconds and small counts: shows that it works, not how fast
#   --update-readme  put the table into tests/bench/README.md
#
# Installs what is missing, builds Release in ESCROW_BENCH_BUILD (a folder in TMPDIR), runs every server on loopback with a free
# port and a folder of its own, and leaves no process and no data behind, also when interrupted. Nothing else should run on
# the machine: compare ratios, not rates.
# Exit status: 0 all figures reached, 1 some not, 2 usage.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
rounds=11
seconds=2
only=latency,redis1,redis16,txn,order,relay,drain,idle,halves,restart
halves=1000000
restart_messages=5000000
backlog=1000000
update=no

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}
while [ $# -gt 0 ]; do
    case $1 in
    --rounds) rounds=$2 && shift ;;
    --seconds) seconds=$2 && shift ;;
    --only) only=$2 && shift ;;
    --restart-messages) restart_messages=$2 && shift ;;
    --quick) rounds=2 seconds=2 halves=50000 restart_messages=100000 backlog=50000 ;;
    --update-readme) update=yes ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

"$root/tests/lib/install_packages.sh" build bench
build=${ESCROW_BENCH_BUILD:-${TMPDIR:-/tmp}/escrow-bench-build-$(id -u)}
work=$(mktemp -d "${TMPDIR:-/tmp}/escrow-bench.XXXXXX")
chmod 755 "$work" # the user postgres must get through
# shellcheck source=tests/bench/lib.sh
. "$root/tests/bench/lib.sh"
trap end_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

wants() { case ",$only," in *",$1,"*) return 0 ;; *) return 1 ;; esac }

say "building in $build"
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DESCROW_TESTS=OFF >"$work/cmake.log" || {
    tail -n 20 "$work/cmake.log" >&2
    exit 1
}
targets=(escrowd escrow_cli)
! wants order || targets+=(escrow)
! wants order && ! wants relay && ! wants drain || targets+=(escrow-relay)
ninja -C "$build" "${targets[@]}" >"$work/ninja.log" || {
    tail -n 20 "$work/ninja.log" >&2
    exit 1
}

# ---- against other brokers: 1 KiB bodies, durable before each answer ----

escrowd_producer() { # CONNECTIONS WINDOW
    start_escrowd "$work/e"
    bench_rate producer --addr "$broker" --connections "$1" --window "$2" --duration "$seconds"
    stop_escrowd "$work/e"
}
escrowd_1x1() { escrowd_producer 1 1; }
escrowd_64x1() { escrowd_producer 64 1; }
escrowd_64x16() { escrowd_producer 64 16; }

beanstalkd_1x1() {
    start_beanstalkd "$work/b"
    bench_rate producer --driver beanstalkd --addr "127.0.0.1:$beanstalkd_port" --duration "$seconds"
    end "$beanstalkd_pid"
    rm -rf "$work/b"
}

# The higher of what redis-benchmark and our own generator get out of it.
redis_xadd() { # CONNECTIONS WINDOW
    local theirs ours count
    start_redis "$work/r"
    ours=$(bench_rate producer --driver redis --addr "127.0.0.1:$redis_port" --connections "$1" --window "$2" --duration "$seconds")
    end "$redis_pid"
    rm -rf "$work/r"
    start_redis "$work/r"
    count=$(awk -v r="$ours" -v s="$seconds" 'BEGIN { printf "%d", r * s + 1000 }')
    theirs=$(head -c 768 /dev/urandom | base64 -w 0 |
        redis-benchmark -p "$redis_port" -c "$1" -P "$2" -n "$count" -x --csv XADD bench '*' b |
        awk -F '","' 'NR == 2 { print $2 }')
    end "$redis_pid"
    rm -rf "$work/r"
    awk -v a="$ours" -v b="${theirs:-0}" 'BEGIN { print (a > b ? a : b) }'
}
redis_64x1() { redis_xadd 64 1; }
redis_64x16() { redis_xadd 64 16; }

txn_64x16() {
    start_escrowd "$work/e"
    bench_rate txn --addr "$broker" --connections 64 --window 16 --duration "$seconds"
    stop_escrowd "$work/e"
}

# ---- PostgreSQL ----

start_postgres() { # sets pg_folder, pg
    pg_folder=$work/pg
    pg=$("$root/tests/lib/postgres.sh" start "$pg_folder" shared_buffers=256MB max_wal_size=4GB)
    "$build/src/relay/escrow-relay" migrate --db "$pg" >"$work/migrate.log" 2>&1
    psql -q "$pg" <<'SQL'
CREATE TABLE bench_account (id bigint PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO bench_account SELECT g, 1000000 FROM generate_series(0, 9999) g;
CREATE TABLE bench_stock (id bigint PRIMARY KEY, count bigint NOT NULL);
INSERT INTO bench_stock SELECT g, 1000000 FROM generate_series(0, 9999) g;
CREATE TABLE bench_line (id bigserial PRIMARY KEY, item bigint NOT NULL, count bigint NOT NULL);
CREATE TABLE bench_order (id bigserial PRIMARY KEY, account bigint NOT NULL, amount bigint NOT NULL);
VACUUM ANALYZE;
SQL
}
stop_postgres() {
    "$root/tests/lib/postgres.sh" stop "$pg_folder"
    rm -rf "$pg_folder"
    pg_folder=
}
start_relay() { # sets relay_pid
    "$build/src/relay/escrow-relay" run --db "$pg" --broker "$broker" --check.listen off >"$work/relay.log" 2>&1 &
    relay_pid=$!
    track "$relay_pid"
}

order_txn() { "$work/order_txn" "$1" 8 "$seconds" "$pg" "$namesrv" | jq -r .rate; }
order_plain() { order_txn plain; }
order_half() { order_txn half; }
prepared_plain() { order_txn plain-prepared; }
prepared_half() { order_txn half-prepared; }
small_plain() { order_txn plain-small; }
small_half() { order_txn half-small; }

topic_messages() { # how many a topic has
    "$build/src/tools/escrow" topics show "$1" --namesrv "$namesrv" --json 2>/dev/null | jq '[.[] | .max - .min] | add // 0' || echo 0
}
has_messages() { [ "$(topic_messages "$1")" -ge "$2" ]; }

measure_order() {
    cc -O2 -D_GNU_SOURCE -I "$root/core/include" "$(pg_config --includedir | sed 's/^/-I/')" -o "$work/order_txn" "$root/tests/bench/order_txn.c" \
        -L "$build/src/client" -Wl,-rpath,"$build/src/client" -lescrow -lpq -lpthread
    start_postgres
    start_escrowd "$work/e"
    compare "order transaction with a half message, 8 sessions: against the same without messaging" 0.6 order_half order_plain "without"
    compare "the same with prepared statements" - prepared_half prepared_plain "without"
    compare "a transaction of two prepared statements with a half message, 8 sessions: against the same without" - small_half small_plain "without"
    stop_escrowd "$work/e"
    stop_postgres
}

outbox_script() { # a business row and an outbox row
    cat >"$work/outbox.sql" <<'SQL'
BEGIN;
INSERT INTO bench_order (account, amount) VALUES (1, 1);
SELECT escrow.publish('BenchRelay', convert_to(repeat(md5(random()::text), 8), 'UTF8'));
COMMIT;
SQL
}

# What is in and what of it the broker has, now: "ROWS MOVED SECONDS". One after the other, so the broker is asked before and
# after, and the mean counts.
rows_and_moved() {
    local before rows at
    before=$(topic_messages BenchRelay)
    rows=$(psql -qAt "$pg" -c 'SELECT last_value FROM bench_order_id_seq')
    at=$EPOCHREALTIME
    echo "$rows $(((before + $(topic_messages BenchRelay)) / 2)) $at"
}

# Rows through the relay against rows inserted, both between two looks while pgbench inserts.
measure_relay() {
    local name="rows/s through escrow-relay while pgbench inserts: against the insert rate" pgbench_pid all
    local rows_1 rows_2 moved_1 moved_2 at_1 at_2 ratios=() rates=() lags=()
    say "$name"
    outbox_script
    for ((round = 1; round <= rounds; round++)); do
        start_postgres
        start_escrowd "$work/e"
        start_relay
        psql -q "$pg" -f "$work/outbox.sql" >/dev/null
        until_true 60 has_messages BenchRelay 1 || say "  round $round: the relay moves nothing"
        pgbench -n -M prepared -c 8 -j 1 -T 600 -f "$work/outbox.sql" "$pg" >"$work/pgbench.log" 2>&1 &
        pgbench_pid=$!
        track "$pgbench_pid"
        pause "$(divide "$seconds" 2)"
        read -r rows_1 moved_1 at_1 < <(rows_and_moved)
        pause "$seconds"
        read -r rows_2 moved_2 at_2 < <(rows_and_moved)
        end "$pgbench_pid"
        ratios+=("$(divide $((moved_2 - moved_1)) $((rows_2 - rows_1)))")
        rates+=("$(awk -v n=$((rows_2 - rows_1)) -v a="$at_1" -v b="$at_2" 'BEGIN { printf "%.3f", n / (b - a) }')")
        lags+=("$((rows_2 - moved_2))")
        say "  round $round: $((moved_2 - moved_1)) rows moved while $((rows_2 - rows_1)) were inserted; $((rows_2 - moved_2)) of $rows_2 on their way"
        all=$(psql -qAt "$pg" -c 'SELECT count(*) FROM bench_order')
        until_true 60 has_messages BenchRelay "$all" || say "  round $round: the rest did not arrive within a minute"
        end "$relay_pid"
        stop_escrowd "$work/e"
        stop_postgres
    done
    insert_rate=$(median "${rates[@]}")
    # To two digits: what is on its way differs a little from one look to the other.
    row "$name" "at least" 1.00 x "$(awk -v m="$(median "${ratios[@]}")" 'BEGIN { printf "%.2f", m }')" \
        "$(whole "$insert_rate") rows/s inserted; $(whole "$(median "${lags[@]}")") rows on their way at the second look; ratios ${ratios[*]}"
}

# A backlog of rows of 256 bytes, then the relay alone.
measure_drain() {
    local name="draining a backlog of $backlog outbox rows of 256 bytes: rows/s against the insert rate" begin took rate
    local base=${insert_rate:-}
    say "$name"
    start_postgres
    if [ -z "$base" ]; then
        outbox_script
        pgbench -n -M prepared -c 8 -j 1 -T "$seconds" -f "$work/outbox.sql" "$pg" >"$work/pgbench.log" 2>&1 || :
        base=$(awk '/^tps/ { print $3 }' "$work/pgbench.log")
    fi
    # 100 rows to a transaction, as services make them, not one giant one.
    psql -q "$pg" >/dev/null <<SQL
CREATE PROCEDURE bench_fill(n int) LANGUAGE plpgsql AS \$\$
BEGIN
    FOR i IN 1 .. n / 100 LOOP
        PERFORM escrow.publish('BenchDrain', convert_to(repeat(md5((i * 100 + j)::text), 8), 'UTF8')) FROM generate_series(1, 100) j;
        COMMIT;
    END LOOP;
END \$\$;
CALL bench_fill($backlog);
SQL
    start_escrowd "$work/e"
    begin=$EPOCHREALTIME
    start_relay
    if until_true 300 has_messages BenchDrain "$backlog"; then
        took=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
        rate=$(divide "$backlog" "$took")
        row "$name" "at least" 5 x "$(divide "$rate" "$base")" "$(whole "$rate") rows/s against $(whole "$base") inserts/s"
    else
        row_missing "$name" "at least 5 x" "not drained within 300 s"
    fi
    end "$relay_pid"
    stop_escrowd "$work/e"
    stop_postgres
}

# ---- memory, restart ----

measure_idle() {
    say "resident memory of an idle server"
    start_escrowd "$work/e"
    "$build/src/tools/escrow" produce --namesrv "$namesrv" --quiet Warm one
    pause 1
    row "resident memory of an idle server" "at most" 20 MiB "$(divide "$(rss_kb "$escrowd_pid")" 1024)" "after its first message"
    stop_escrowd "$work/e"
}

measure_halves() {
    local before after
    say "resident memory per undecided half: $halves of them"
    start_escrowd "$work/e"
    # Buffers as a busy server has them, so that only what a half keeps is counted.
    bench_rate producer --addr "$broker" --connections 16 --window 16 --count $((halves / 2)) >/dev/null
    before=$(rss_kb "$escrowd_pid")
    bench_rate txn --addr "$broker" --connections 16 --window 16 --count "$halves" --size 100 --leave 100 >/dev/null
    after=$(rss_kb "$escrowd_pid")
    row "resident memory per undecided half" "at most" 96 bytes "$(awk -v a="$before" -v b="$after" -v n="$halves" 'BEGIN { printf "%.1f", (b - a) * 1024 / n }')" \
        "$halves halves, $((before / 1024)) MiB before, $((after / 1024)) MiB after"
    stop_escrowd "$work/e"
}

# Is there room for that many messages of 1 KiB, and for what is sent in each round?
has_room() { # MESSAGES
    local free
    free=$(($(df --output=avail -B1M "$work" | tail -n 1)))
    [ "$free" -ge "$(restart_mib "$1")" ] || {
        say "  $1 messages of 1 KiB need $(restart_mib "$1") MiB in $work, $free MiB are free: TMPDIR elsewhere, or fewer with --restart-messages"
        return 1
    }
}
restart_mib() { echo $(($1 * 1400 / 1048576 + 2048)); }

measure_restart() {
    local name="restart after SIGKILL with $restart_messages messages, until the first send succeeds" begin took before producer_pid times=()
    say "$name"
    has_room "$restart_messages" || {
        row_missing "$name" "at most 1 s" "not enough disk space"
        return
    }
    broker_port=$(free_port) ns_port=$(free_port)
    start_escrowd "$work/e"
    bench_rate producer --addr "$broker" --connections 64 --window 16 --count "$restart_messages" >/dev/null
    for ((round = 1; round <= rounds; round++)); do
        # The kill comes in the middle of work, with a tail behind the last checkpoint.
        before=$(topic_messages Bench)
        "$build/src/tools/escrow" bench producer --addr "$broker" --connections 64 --window 16 --duration 120 --quiet >"$work/producer.log" 2>&1 &
        producer_pid=$!
        track "$producer_pid"
        if ! until_true 60 has_messages Bench $((before + 20000)) || is_gone "$producer_pid" 2>/dev/null; then
            tail -n 5 "$work/producer.log" >&2
            row_missing "$name" "at most 1 s" "round $round: the producer does not send"
            end "$producer_pid"
            break
        fi
        end "$escrowd_pid" KILL
        end "$producer_pid" # it has lost its broker, and may have given up
        rm -f "$work/escrowd.log"
        begin=$EPOCHREALTIME
        "$build/src/broker/escrowd" --data.dir "$work/e" --broker.port "$broker_port" --broker.vip.port 0 --namesrv.port "$ns_port" \
            >"$work/escrowd.log" 2>&1 &
        escrowd_pid=$!
        track "$escrowd_pid"
        until_true 60 "$build/src/tools/escrow" produce --addr "$broker" --quiet Bench again
        took=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }')
        times+=("$took")
        say "  round $round: $took s"
    done
    [ "${#times[@]}" -lt "$rounds" ] || row "$name" "at most" 1 s "$(median "${times[@]}")" "${times[*]}"
    stop_escrowd "$work/e"
    unset broker_port ns_port
}

# ---- all of it ----

{
    printf 'Measured %s on %s x %s, kernel %s; %s rounds of %s s, alternating; median of the ratios of each round. Client and server share the processors.\n\n' \
        "$(date -u +%F)" "$(nproc)" "$(sed -n '/^model name/{s/.*: //p;q}' /proc/cpuinfo)" "$(uname -r)" "$rounds" "$seconds"
    printf '| Figure | Wanted | Measured | | Details |\n| --- | --- | --- | --- | --- |\n'
} >"$table"

! wants latency || compare "one connection, one in flight: against beanstalkd -f 0" 1.0 escrowd_1x1 beanstalkd_1x1 "beanstalkd"
! wants redis1 || compare "64 connections, one in flight each: against Redis XADD, appendfsync always" 1.0 escrowd_64x1 redis_64x1 "Redis"
! wants redis16 || compare "pipelined, 64 connections x 16: against the same Redis" 1.3 escrowd_64x16 redis_64x16 "Redis"
! wants txn || compare "half + commit, pipelined, transactions/s: against plain sends/s" 0.5 txn_64x16 escrowd_64x16 "plain"
! wants order || measure_order
! wants relay || measure_relay
! wants drain || measure_drain
! wants idle || measure_idle
! wants halves || measure_halves
! wants restart || measure_restart

cat "$table"
if [ "$update" = yes ]; then
    awk -v file="$table" '
        /<!-- table -->/ { print; print ""; while ((getline line < file) > 0) print line; print ""; skip = 1; next }
        /<!-- end of table -->/ { skip = 0 }
        !skip { print }' "$root/tests/bench/README.md" >"$work/README.md"
    cat "$work/README.md" >"$root/tests/bench/README.md"
fi
[ "$failures" -eq 0 ]
