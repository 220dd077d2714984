#!/usr/bin/env bash
# The money transfer: service A debits, service B credits, and everything is killed at random meanwhile. At the end the books
# of both databases must balance.
#
# usage: examples/run.sh
# Installs what is missing from Debian's packages, builds Release, and runs: a private PostgreSQL (unix socket, never as root),
# escrowd, escrow-relay, order_service and payment_service. Everything lives in a temporary folder that is removed at the end,
# also after an interrupt. Works as root, or as a user with sudo.
# Environment:
#   ESCROW_BUILD_DIR   build folder                              (build-example)
#   ESCROW_PROGRAMS    a folder where they are built: no build
#   ESCROW_TRANSFERS   by half message, and as many by outbox    (2200)
#   ESCROW_KILLS       SIGKILLs, at least                        (24)
#   ESCROW_KEEP_LOGS   a folder for the logs of a run that fails
# Exit status 0 only if the books balance, every half message is decided, and check-backs of both ways had a part in it; else 1, and
# the last line says what was not so.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${ESCROW_BUILD_DIR:-build-example}
programs=${ESCROW_PROGRAMS:-}
transfers=${ESCROW_TRANSFERS:-2200}
kills_wanted=${ESCROW_KILLS:-24}
accounts=100
opening=1000000
run_id=$$.$(date +%s%N)
folder=
declare -A pid_of kills_of
kills=0

# shellcheck source=tests/lib/processes.sh
. tests/lib/processes.sh

say() { printf '%s\n' "$*"; }
die() {
    printf 'examples/run.sh: %s\n' "$*" >&2
    exit 1
}

# ---- the end, however it comes

cleanup() {
    local status=$? pid
    trap '' INT TERM HUP
    set +e
    for pid in $(jobs -pr); do # also one whose id was not noted yet
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    if [ -n "$folder" ]; then
        [ ! -d "$folder/pg/data" ] || tests/lib/postgres.sh kill "$folder/pg" >/dev/null 2>&1
        end_marked ESCROW_EXAMPLE_RUN "$run_id" # PostgreSQL, if it was only starting
        if [ "$status" -ne 0 ] && [ -n "${ESCROW_KEEP_LOGS:-}" ]; then
            mkdir -p "$ESCROW_KEEP_LOGS" && cp "$folder"/*.log "$ESCROW_KEEP_LOGS"/
        fi
        rm -rf "$folder"
    fi
    exit "$status"
}
# The first signal ends the run; further ones do not disturb the cleaning up.
catch_signals() {
    trap 'trap "" INT TERM HUP; exit 130' INT
    trap 'trap "" INT TERM HUP; exit 143' TERM
    trap 'trap "" INT TERM HUP; exit 129' HUP
}
trap cleanup EXIT
catch_signals

# ---- install and build

if [ -z "$programs" ]; then
    tests/lib/install_packages.sh build test
    say "building (Release, folder $build) ..."
    mkdir -p "$build"
    if ! { cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DESCROW_TESTS=OFF >"$build/build.log" 2>&1 &&
        cmake --build "$build" --target escrowd escrow-relay escrow_cli order_service payment_service >"$build/build.log" 2>&1; }; then
        tail -n 30 "$build/build.log" >&2
        die "the build failed"
    fi
    programs=$build
fi
programs=$(cd "$programs" && pwd)
started=$(date +%s)

# ---- PostgreSQL and its two databases

trap '' INT TERM HUP # a folder that was made has a name here
folder=$(mktemp -d "${TMPDIR:-/tmp}/escrow-transfer.XXXXXX")
catch_signals
chmod 711 "$folder"
export ESCROW_EXAMPLE_RUN=$run_id
pg=$(tests/lib/postgres.sh start "$folder/pg" max_connections=200 shared_buffers=64MB)
sql() { psql -X -q -At -v ON_ERROR_STOP=1 "${pg/dbname=postgres/dbname=$1}" -c "$2"; }
orders="${pg/dbname=postgres/dbname=orders}"
payments="${pg/dbname=postgres/dbname=payments}"

sql postgres "CREATE DATABASE orders"
sql postgres "CREATE DATABASE payments"
"$programs/src/relay/escrow-relay" migrate --db "$orders" >"$folder/migrate.log" 2>&1 ||
    { cat "$folder/migrate.log" >&2; die "migrate failed"; }
"$programs/src/relay/escrow-relay" migrate --db "$payments" >>"$folder/migrate.log" 2>&1 ||
    { cat "$folder/migrate.log" >&2; die "migrate failed"; }
sql orders "
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
INSERT INTO account SELECT i, $opening FROM generate_series(1, $accounts) i;
CREATE TABLE transfer (id int PRIMARY KEY, path text NOT NULL, debit int NOT NULL, credit int NOT NULL, amount int NOT NULL,
                       outcome text, attempts int NOT NULL DEFAULT 0);
CREATE INDEX ON transfer (id) WHERE outcome IS NULL;"
sql payments "
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO account SELECT i, 0 FROM generate_series(1, $accounts) i;
CREATE TABLE credit (transfer int NOT NULL, account int NOT NULL, amount int NOT NULL, at timestamptz NOT NULL DEFAULT now());"

money() { echo $(($(sql orders "SELECT sum(balance) FROM account") + $(sql payments "SELECT sum(balance) FROM account"))); }
before=$(money)

# ---- the processes

# Ports on loopback that nobody listens on now, below those that the kernel gives to clients.
free_ports() { # COUNT
    local port ports=
    while [ "$(wc -w <<<"$ports")" -lt "$1" ]; do
        port=$((10240 + RANDOM % 22000))
        if [[ " $ports " != *" $port "* ]] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            ports+=" $port"
        fi
    done
    echo "$ports"
}
read -r broker_port namesrv_port check_port < <(free_ports 3)
servers=127.0.0.1:$namesrv_port

start() { # NAME
    case $1 in
    escrowd)
        "$programs/src/broker/escrowd" --data.dir "$folder/data" --broker.port "$broker_port" --broker.vip.port 0 \
            --namesrv.port "$namesrv_port" --log.segment.bytes 64m --txn.timeout.ms 500 --txn.check.interval.ms 1000 \
            --callback "default=http://127.0.0.1:$check_port/check" >>"$folder/escrowd.log" 2>&1 &
        ;;
    relay)
        "$programs/src/relay/escrow-relay" run --db "$orders" --broker "127.0.0.1:$broker_port" --namesrv "$servers" --source orders \
            --check.listen "127.0.0.1:$check_port" --backoff.max.ms 500 >>"$folder/relay.log" 2>&1 &
        ;;
    order) "$programs/examples/order_service" "$orders" "$servers" >>"$folder/order.log" 2>&1 & ;;
    payment) "$programs/examples/payment_service" "$payments" "$servers" >>"$folder/payment.log" 2>&1 & ;;
    esac
    pid_of[$1]=$!
}

is_running() { kill -0 "${pid_of[$1]}" 2>/dev/null; }

note_kill_and_start() { # NAME
    wait "${pid_of[$1]}" 2>/dev/null || true
    kills=$((kills + 1))
    kills_of[$1]=$((${kills_of[$1]:-0} + 1))
    start "$1"
}

kill_and_restart() { # NAME
    kill -KILL "${pid_of[$1]}" 2>/dev/null || die "$1 had died by itself: $(tail -n 3 "$folder/$1.log")"
    note_kill_and_start "$1"
}

# Service A dies where its half is undecided (order_service.c says where); when no such transfer comes by, anywhere.
kill_at_worst_moment() { # USR1|USR2
    local i before now
    before=$(left)
    for ((i = 0; i < 100; i++)); do # it is at work: the signal finds its handler, and transfers to die in
        now=$(left)
        if [ "$now" -ne "$before" ] || [ "$now" -eq 0 ]; then
            break
        fi
        sleep 0.05
    done
    kill -"$1" "${pid_of[order]}" 2>/dev/null || die "order had died by itself: $(tail -n 3 "$folder/order.log")"
    {
        for ((i = 0; i < 40; i++)); do
            is_running order || break
            sleep 0.05
        done
        kill -KILL "${pid_of[order]}" || true
        wait "${pid_of[order]}" || true
    } 2>/dev/null # the shell reports such deaths
    note_kill_and_start order
}

names=(escrowd relay order payment)
for name in "${names[@]}"; do
    kills_of[$name]=0
    start "$name"
done

# ---- kill at random while transfers run

# Transfers come in until COUNT were asked for in all: work for as long as there are kills.
asked=0
ask_up_to() { # COUNT
    local count=$(($1 < 2 * transfers ? $1 : 2 * transfers))
    [ "$count" -gt "$asked" ] || return 0
    sql orders "
INSERT INTO transfer (id, path, debit, credit, amount)
SELECT i, ('{marker,outbox,callback,outbox}'::text[])[1 + i / 4 % 4], 1 + floor(random() * $accounts), 1 + floor(random() * $accounts),
       1 + floor(random() * 1000)
FROM generate_series($asked + 1, $count) i"
    asked=$count
}

left() { sql orders "SELECT count(*) FROM transfer WHERE outcome IS NULL"; }
credited() { sql payments "SELECT count(DISTINCT transfer) FROM credit"; }
committed() { sql orders "SELECT count(*) FROM transfer WHERE outcome = 'committed'"; }
# What comes last is asked first: transfers go on meanwhile, and no line may show more credited than committed than decided.
progress() {
    local n_credited n_committed n_decided
    n_credited=$(credited)
    n_committed=$(committed)
    n_decided=$((asked - $(left)))
    say "$(printf '%3d s  %5d of %d transfers decided, %5d committed, %5d credited, %2d kills' \
        $(($(date +%s) - started)) "$n_decided" $((2 * transfers)) "$n_committed" "$n_credited" "$kills")"
}

say "transfers: $((2 * transfers)), half of them by half message, half by outbox; killing at random ..."
victims=()
shown=0
while [ "$asked" -lt $((2 * transfers)) ] || [ "$(left)" -gt 0 ] || [ "$kills" -lt "$kills_wanted" ]; do
    ask_up_to $((2 * transfers * (kills + 2) / (kills_wanted > 0 ? kills_wanted : 1)))
    # Every process is killed in turn, in an order by chance; service A at its worst moments, too.
    case $((kills % 6)) in
    0) kill_at_worst_moment USR2 ;;
    1) kill_at_worst_moment USR1 ;;
    *)
        sleep "0.$((RANDOM % 4 + 1))" # nothing is waited for: it is to be a moment by chance
        [ "${#victims[@]}" -gt 0 ] || mapfile -t victims < <(shuf -e "${names[@]}")
        kill_and_restart "${victims[0]}"
        victims=("${victims[@]:1}")
        ;;
    esac
    now=$(date +%s)
    if [ "$now" -ge $((shown + 3)) ]; then
        progress
        shown=$now
    fi
    [ $((now - started)) -lt 60 ] || break
done
for name in "${names[@]}"; do
    [ "${kills_of[$name]}" -gt 0 ] || kill_and_restart "$name"
done

# ---- until everything committed is credited, and every half message decided

undecided_halves() {
    local list
    list=$("$programs/src/tools/escrow" transactions --namesrv "$servers" --json 2>>"$folder/cli.log") || list='"transactionId"'
    { grep -o '"transactionId"' <<<"$list" || true; } | wc -l
}
say "no more kills; waiting for what is on its way ..."
while [ "$(left)" -gt 0 ] || [ "$(credited)" -lt "$(committed)" ] || [ "$(undecided_halves)" -gt 0 ]; do
    [ $(($(date +%s) - started)) -lt 84 ] || break
    sleep 0.3
done
sleep 1.5 # a duplicate, if there were one, would come now
progress

# ---- reconciliation, from the two databases

attempted=$(sql orders "SELECT sum(attempts) FROM transfer")
done_callback=$(sql orders "SELECT count(*) FROM transfer WHERE path = 'callback' AND outcome IS NOT NULL")
done_marker=$(sql orders "SELECT count(*) FROM transfer WHERE path = 'marker' AND outcome IS NOT NULL")
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
after=$(money)
undecided_halves=$(undecided_halves)

for name in order payment relay escrowd; do
    kill -TERM "${pid_of[$name]}" 2>/dev/null || true
    wait "${pid_of[$name]}" 2>/dev/null || true
    unset "pid_of[$name]"
done
"$programs/src/tools/escrow" dump "$folder/data" --json >"$folder/dump" 2>"$folder/cli.log" ||
    die "escrow dump: $(tail -n 3 "$folder/cli.log")"
# Halves of a producer group that check-backs decided: of each decision "by check" the halves that it names.
by_check() { # GROUP
    awk -v group="$1" '
        /"type":"HALF"/ && match($0, /"offset":[0-9]+/) {
            offset = substr($0, RSTART + 9, RLENGTH - 9)
            is_of[offset] = index($0, "\"PGROUP\":\"" group "\"") > 0
        }
        /"by":"check"/ && match($0, /"halves":\[[0-9,]*\]/) {
            n = split(substr($0, RSTART + 10, RLENGTH - 11), halves, ",")
            for (i = 1; i <= n; i++) count += is_of[halves[i]]
        }
        END { print count + 0 }' "$folder/dump"
}
by_callback=$(by_check orders-callback)
by_marker=$(by_check orders-pg)

row() { printf '  %-34s %12s   %s\n' "$1" "$2" "${3:-}"; }
say
say "reconciliation"
row "transfers attempted" "$attempted" "($((done_callback + done_marker)) by half message, $done_outbox by outbox, the rest repeated after kills)"
row "  half messages with callbacks" "$done_callback"
row "  half messages with PostgreSQL" "$done_marker"
row "committed" "$n_committed"
row "rolled back" "$rolled_back"
row "undecided" "$undecided" "must be 0"
row "half messages undecided" "$undecided_halves" "must be 0"
row "decided by check-back" "$((by_callback + by_marker))" "($by_callback by service A, $by_marker by escrow-relay; neither may be 0)"
row "kills" "$kills" "escrowd ${kills_of[escrowd]}, relay ${kills_of[relay]}, service A ${kills_of[order]}, service B ${kills_of[payment]}"
row "lost" "$lost" "must be 0"
row "credited twice" "$twice" "must be 0"
row "credited without a debit" "$ghosts" "must be 0"
row "total money before" "$before"
row "total money after" "$after" "must be equal"
row "seconds" "$(($(date +%s) - started))"

wrong=() # in the books
[ "$lost" -eq 0 ] || wrong+=("$lost lost")
[ "$twice" -eq 0 ] || wrong+=("$twice credited twice")
[ "$ghosts" -eq 0 ] || wrong+=("$ghosts credited without a debit")
[ "$before" -eq "$after" ] || wrong+=("the total was $before and is $after")
missing=() # the books may balance, and the run has not shown what it is for
[ "$undecided" -eq 0 ] || missing+=("$undecided transfers undecided")
[ "$undecided_halves" -eq 0 ] || missing+=("$undecided_halves half messages undecided")
[ "$by_callback" -gt 0 ] || missing+=("0 decided by service A's check-back")
[ "$by_marker" -gt 0 ] || missing+=("0 decided by escrow-relay's check-back")
[ "$kills" -ge "$kills_wanted" ] || missing+=("$kills of $kills_wanted kills")

joined() { # WORD...
    local text
    text=$(printf '%s, ' "$@")
    printf '%s' "${text%, }"
}
say
if [ ${#wrong[@]} -gt 0 ]; then
    die "THE BOOKS DO NOT BALANCE: $(joined "${wrong[@]}")"
fi
say "the books balance"
[ ${#missing[@]} -eq 0 ] || die "but this run did not show everything: $(joined "${missing[@]}")"
