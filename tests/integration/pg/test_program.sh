#!/usr/bin/env bash
# The real programs: PostgreSQL, escrowd, escrow-relay, with SIGKILL at any moment. Shows that every committed row is in the
# topic exactly once, in the order of its key; that the exit statuses mean what they say; that check-backs are answered.
#
# usage: test_program.sh ESCROWD ESCROW_RELAY ESCROW POSTGRES_SH
set -euo pipefail

escrowd=$1 relay=$2 cli=$3 postgres=$4
folder=$(mktemp -d /tmp/escrow-prog-XXXXXX)
chmod 755 "$folder"
escrowd_pid='' relay_pid='' writer_pid=''

cleanup() {
    local status=$?
    trap - EXIT
    for pid in $writer_pid $relay_pid $escrowd_pid; do
        kill -9 "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    bash "$postgres" kill "$folder/pg" >/dev/null 2>&1 || true
    if [ $status -ne 0 ]; then
        tail -n 20 "$folder"/*.log >&2 || true
    fi
    rm -rf "$folder"
    exit $status
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() {
    echo "test_program: $*" >&2
    exit 1
}

mkdir "$folder/pg"
db=$(bash "$postgres" start "$folder/pg" fsync=off)
export ESCROW_RELAY_DB=$db

sql() { psql -qXAt -v ON_ERROR_STOP=1 -d "$db" -c "$1"; }

# Ports that are free now; the programs are started again on the same ones.
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
broker_port=$(port) check_port=$(port) namesrv_port=$(port)

# Wait until a line of the log says so: no guess at times. $3: lines before that do not count.
wait_log() {
    local log=$1 event=$2 from=$3 i
    touch "$log"
    for ((i = 0; i < 600; i++)); do
        tail -n "+$((from + 1))" "$log" | grep -q " $event " && return 0
        read -r -t 0.05 <>"$folder/never" || true
    done
    fail "no $event in $log"
}
mkfifo "$folder/never"
lines() { if [ -f "$1" ]; then wc -l <"$1"; else echo 0; fi; }

# Nowhere to print to is an error, and no abort.
status=0
"$relay" print-config <&- >&- 2>&- || status=$?
[ $status -eq 1 ] || fail "print-config with closed descriptors: status $status"

start_escrowd() {
    local from
    from=$(lines "$folder/escrowd.log")
    "$escrowd" --data.dir "$folder/data" --broker.port "$broker_port" --broker.vip.port 0 --namesrv.port "$namesrv_port" \
        --log.segment.bytes 16m --callback "default=http://127.0.0.1:$check_port/check" "$@" >>"$folder/escrowd.log" 2>&1 &
    escrowd_pid=$!
    wait_log "$folder/escrowd.log" ready "$from"
}

start_relay() {
    "$relay" run --broker "127.0.0.1:$broker_port" --check.listen "127.0.0.1:$check_port" --backoff.max.ms 200 \
        --rotate.bytes 64k --maintain.ms 20 "$@" >>"$folder/relay.log" 2>&1 &
    relay_pid=$!
}

lag() { "$relay" status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["readers"][0]["lag_rows"])'; }

wait_drained() {
    local i
    for ((i = 0; i < 600; i++)); do
        [ "$(lag)" = 0 ] && return 0
        read -r -t 0.05 <>"$folder/never" || true
    done
    fail "the outbox is not drained: $(lag) rows"
}

# --- Before the schema is there: one line, exit 1; then install it twice.
"$relay" status >/dev/null 2>"$folder/status.log" && fail "status without a schema"
grep -q "run escrow-relay migrate" "$folder/status.log" || fail "status does not say what to do"
"$relay" migrate | grep -q "version [0-9]*, was 0" || fail "migrate"
"$relay" migrate | grep -q "nothing to do" || fail "migrate again"

# --- By hand, as sql/README.md says: what the relay would have installed. Without its rows: said, and they can be added.
sql_folder=$(cd "$(dirname "$0")/../../../sql" && pwd)
# shellcheck disable=SC2016
sed -n '/^## By hand/,/^## For/{/^```sh$/,/^```$/{/^```/d;p}}' "$sql_folder/README.md" >"$folder/by-hand.sh"
[ "$(wc -l <"$folder/by-hand.sh")" -gt 5 ] || fail "sql/README.md does not say what to type"
by_hand="${db/dbname=postgres/dbname=by_hand}" files_only="${db/dbname=postgres/dbname=files_only}"
sql "CREATE DATABASE by_hand" && sql "CREATE DATABASE files_only"
(cd "$sql_folder" && db=$by_hand bash "$folder/by-hand.sh") >"$folder/by-hand.log" 2>&1 || fail "by hand: $(cat "$folder/by-hand.log")"
"$relay" migrate --db "$by_hand" | grep -q "nothing to do" || fail "migrate after the files were run by hand"
for file in "$sql_folder"/0*.sql; do
    psql -qX -1 -v ON_ERROR_STOP=1 -d "$files_only" -f "$file"
done
says="escrow.migration has no row: the files of sql/ were run by hand"
status=0
"$relay" migrate --db "$files_only" 2>"$folder/files-only.log" || status=$?
[ "$status" = 1 ] || fail "migrate without rows: status $status"
grep -q "$says" "$folder/files-only.log" || fail "migrate without rows: $(cat "$folder/files-only.log")"
[ "$(wc -l <"$folder/files-only.log")" = 1 ] || fail "more than one line: $(cat "$folder/files-only.log")"
"$relay" status --db "$files_only" | grep -q "schema_error .*$says" || fail "status without rows"
# shellcheck disable=SC2016
sed 's/ -f "$name.sql"//' "$folder/by-hand.sh" >"$folder/rows-only.sh"
(cd "$folder" && db=$files_only bash "$folder/rows-only.sh") >"$folder/by-hand.log" 2>&1 || fail "rows only: $(cat "$folder/by-hand.log")"
"$relay" migrate --db "$files_only" | grep -q "nothing to do" || fail "migrate after the rows were added"
"$relay" status --db "$files_only" --json | python3 -c 'import json, sys
d = json.load(sys.stdin)["database"][0]
assert d["schema_version"] > 6 and d["schema_error"] is None, d' || fail "status after the rows were added"

# --- What is wrong with the configuration is said at once: status 2, one line.
for bad in "--broker nonsense" "--config $folder/no-such-file" "--namesrv a:1,b" "--nonsense 1"; do
    status=0
    # shellcheck disable=SC2086
    timeout 20 "$relay" run $bad 2>"$folder/usage.log" || status=$?
    [ "$status" = 2 ] || fail "$bad: status $status"
    [ "$(wc -l <"$folder/usage.log")" = 1 ] || fail "$bad: $(cat "$folder/usage.log")"
done

# A connection string that libpq cannot read never works: said at once, too, without what may be a password.
for bad in "postgresql://u:se%zzcret@h/d" "host=h password='secret" "host=h sslmod=secret"; do
    for word in run status; do
        status=0
        timeout 20 "$relay" "$word" --db "$bad" >"$folder/usage.log" 2>&1 || status=$?
        [ "$status" = 2 ] || fail "$word --db $bad: status $status"
        [ "$(wc -l <"$folder/usage.log")" = 1 ] || fail "$word --db $bad: $(cat "$folder/usage.log")"
        ! grep -q cret "$folder/usage.log" || fail "$word --db shows the password: $(cat "$folder/usage.log")"
    done
done

# --- What only prints fails when it cannot.
for word in --help --version print-config; do
    status=0
    "$relay" "$word" >/dev/full 2>"$folder/usage.log" || status=$?
    [ "$status" = 1 ] || fail "$word to a full disk: status $status"
done

# --- A broker that is not there is named.
"$relay" run --broker 127.0.0.1:1 --check.listen off >>"$folder/nobody.log" 2>&1 &
relay_pid=$!
wait_log "$folder/nobody.log" outbox.relay.failed 0
grep -q "broker 127.0.0.1:1: connection failed" "$folder/nobody.log" || fail "the broker's address is not named"
for ((i = 0; i < 600; i++)); do # one line for each attempt
    [ "$(grep -c outbox.relay.failed "$folder/nobody.log")" -lt 3 ] || break
    read -r -t 0.05 <>"$folder/never" || true
done
[ "$(grep -c outbox.relay.failed "$folder/nobody.log")" -ge 3 ] || fail "no third attempt"
[ "$(grep -c outbox.db.connected "$folder/nobody.log")" = 1 ] || fail "more than one line for an attempt"
kill -TERM "$relay_pid"
wait "$relay_pid" || fail "stopped while nobody answers: status $?"
relay_pid=

# --- A writer: transactions of one to four messages on four keys, every third rolled back; relay and broker are killed meanwhile.
sql "CREATE PROCEDURE work(n int) LANGUAGE plpgsql AS \$\$ BEGIN FOR i IN 1..n LOOP
       PERFORM escrow.publish('orders', convert_to(i || '.' || k, 'UTF8'), ordering_key => (i % 4)::text) FROM generate_series(1, 1 + i % 4) k;
       IF i % 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; END \$\$"
start_escrowd
start_relay
for round in 1 2 3 4 5 6; do
    (sql "CALL work(500)" >/dev/null) &
    writer_pid=$!
    wait_log "$folder/relay.log" outbox.db.connected 0
    if [ $((round % 2)) = 0 ]; then
        kill -9 "$escrowd_pid"
        wait "$escrowd_pid" 2>/dev/null || true
        start_escrowd
    else
        kill -9 "$relay_pid"
        wait "$relay_pid" 2>/dev/null || true
        start_relay
    fi
    wait "$writer_pid"
    writer_pid=
done
wait_drained

"$cli" consume orders --namesrv "127.0.0.1:$namesrv_port" --json >"$folder/messages.json"
python3 - "$folder/messages.json" <<'PY'
import collections, json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
want = collections.Counter(f"{i}.{k}" for i in range(1, 501) if i % 3 for k in range(1, 2 + i % 4))
got = collections.Counter(row["body"] for row in rows)
assert got == {body: 6 for body in want}, f"{sum(got.values())} messages of {6 * len(want)}: {[b for b in want if got[b] != 6][:5]}"
queues = collections.defaultdict(list)
for row in rows:
    queues[row["queue"]].append(row)
for queue in queues.values():                       # in a queue each key's messages ascend, round after round
    queue.sort(key=lambda row: row["queueOffset"])
    last = {}
    for row in queue:
        i, k = map(int, row["body"].split("."))
        rounds, before = last.get(i % 4, (0, (0, 0)))
        last[i % 4] = (rounds + ((i, k) <= before), (i, k))
    assert all(rounds <= 5 for rounds, _ in last.values()), "a key is out of order"
PY

# --- A second relay takes over; the first ends with status 3 as soon as there is something to publish.
first=$relay_pid
"$relay" run --broker "127.0.0.1:$broker_port" --check.listen off >>"$folder/relay2.log" 2>&1 &
relay_pid=$!
wait_log "$folder/relay2.log" outbox.db.connected 0
for i in 1 2 3 4 5; do
    sql "SELECT escrow.publish('orders', 'fence')" >/dev/null
    wait_drained
    kill -0 "$first" 2>/dev/null || break
done
status=0
wait "$first" || status=$?
[ "$status" = 3 ] || fail "the fenced relay ended with status $status"

# --- SIGTERM ends cleanly; a check endpoint alone answers.
kill -TERM "$relay_pid"
status=0
wait "$relay_pid" || status=$?
[ "$status" = 0 ] || fail "SIGTERM: status $status"
relay_pid=
"$relay" check-endpoint --check.listen "127.0.0.1:$check_port" >>"$folder/check.log" 2>&1 &
relay_pid=$!
wait_log "$folder/check.log" relay.check.listen 0
sql "SELECT escrow.transaction_mark('t1')" >/dev/null
answer=$(python3 - "$check_port" <<'PY'
import sys, urllib.request
request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/check", b'{"transactionId":"t1","nonce":"0a"}', method="POST")
print(urllib.request.urlopen(request, timeout=20).read().decode())
PY
)
[ "$answer" = '{"transactionId":"t1","nonce":"0a","state":"commit"}' ] || fail "check-back: $answer"

# --- A half of a former identity of the database: relay and listing say what to do, and after that it is decided.
read -r system timeline < <(sql "SELECT system_identifier || ' ' || timeline FROM escrow.database_identity()")
sql "SELECT escrow.transaction_mark('former-1')" >/dev/null # as it came with the base backup
python3 - "$broker_port" "$system" "$((timeline + 7))" <<'PY'
import json, socket, struct, sys
port, system, timeline = sys.argv[1:]
pairs = {"TRAN_MSG": "true", "PGROUP": "gone", "UNIQ_KEY": "former-1", "CHECK_IMMUNITY_TIME_IN_SECONDS": "1",
         "ESCROW_DB_SYSTEM": system, "ESCROW_DB_TIMELINE": timeline, "ESCROW_DB_NAME": "postgres"}
fields = {"a": "gone", "b": "Former", "c": "TBW102", "d": "1", "e": "0", "f": "4", "g": "1", "h": "0",
          "i": "".join(f"{name}\x01{value}\x02" for name, value in pairs.items())}
header = json.dumps({"code": 310, "language": "JAVA", "version": 409, "opaque": 1, "flag": 0, "extFields": fields}).encode()
body = b"decided late"
with socket.create_connection(("127.0.0.1", int(port)), 20) as s:
    s.sendall(struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body)
    length = struct.unpack(">I", s.recv(4, socket.MSG_WAITALL))[0]
    answer = s.recv(length, socket.MSG_WAITALL)
assert json.loads(answer[4:])["code"] == 0, answer
PY
wait_log "$folder/check.log" relay.check.not_mine 0
transactions() { "$cli" transactions --group gone --namesrv "127.0.0.1:$namesrv_port" "$@"; }
for ((i = 0; i < 600; i++)); do
    transactions >"$folder/transactions"
    ! grep -q 'not mine (1)' "$folder/transactions" || break
    read -r -t 0.05 <>"$folder/never" || true
done
grep -q 'former-1 .* not mine$' "$folder/transactions" || fail "the listing does not mark the half: $(cat "$folder/transactions")"
transactions --json | grep -q "\"notMine\":\"$system/$((timeline + 7))/postgres\"" || fail "nor does it as JSON"
todo=$(sed -n 's/.*run in it: \(SELECT .*;\)$/\1/p' "$folder/transactions")
[ "$todo" = "SELECT escrow.lineage_add('$system', $((timeline + 7)), 'postgres');" ] || fail "the listing says to do: $todo"
grep -qF "${todo%;}" "$folder/check.log" || fail "the relay says something else"
sql "$todo" >/dev/null
for ((i = 0; i < 1200; i++)); do
    transactions >"$folder/transactions"
    ! grep -qx none "$folder/transactions" || break
    read -r -t 0.05 <>"$folder/never" || true
done
[ "$("$cli" consume Former --namesrv "127.0.0.1:$namesrv_port")" = "decided late" ] || fail "the half is not decided"
[ "$(grep -c relay.check.not_mine "$folder/check.log")" = 1 ] || fail "the relay says it more than once"

# --- A database that is not the one of the position: status 4, and the line says what to do; the right one's relay goes on.
kill -TERM "$relay_pid"
wait "$relay_pid"
relay_pid=
sql "CREATE DATABASE copy TEMPLATE postgres"
start_relay
sql "SELECT escrow.publish('orders', 'before the copy')" >/dev/null
wait_drained
status=0
"$relay" run --db "${db/dbname=postgres/dbname=copy}" --broker "127.0.0.1:$broker_port" --check.listen off >>"$folder/copy.log" 2>&1 || status=$?
[ "$status" = 4 ] || fail "a copy: status $status"
grep -q -- "--adopt=" "$folder/copy.log" || fail "the refusal does not say what to do"
sql "SELECT escrow.publish('orders', 'beside the copy')" >/dev/null
wait_drained
kill -TERM "$relay_pid"
wait "$relay_pid" || fail "the relay beside a refused one: status $?"
relay_pid=

# --- A promoted replica: status 4, the line says what to type; typed once, the relay goes on, and needs nothing after that.
bash "$postgres" promote "$folder/pg" fsync=off
is_of="$system/$timeline"
[ "$(sql "SELECT timeline > $timeline FROM escrow.database_identity()")" = t ] || fail "the timeline is the same"
status=0
timeout 60 "$relay" run --broker "127.0.0.1:$broker_port" --check.listen off >>"$folder/promoted.log" 2>&1 || status=$?
[ "$status" = 4 ] || fail "a promoted replica: status $status"
grep -q -- "--adopt=$is_of, .* --discard=$is_of" "$folder/promoted.log" || fail "the refusal does not say what to type"
start_relay "--adopt=$is_of"
sql "SELECT escrow.publish('orders', 'promoted')" >/dev/null
wait_drained
kill -TERM "$relay_pid"
wait "$relay_pid" || fail "the relay that adopted: status $?"
start_relay
sql "SELECT escrow.publish('orders', 'promoted')" >/dev/null
wait_drained
[ "$("$cli" consume orders --namesrv "127.0.0.1:$namesrv_port" | grep -cx promoted)" = 2 ] || fail "rows of the promoted database are missing"
kill -TERM "$relay_pid"
wait "$relay_pid" || fail "the relay of the promoted database: status $?"
relay_pid=

# --- A broker that has no position, although rows were published: status 4 too.
wiped_port=$(port)
"$escrowd" --data.dir "$folder/wiped" --broker.port "$wiped_port" --broker.vip.port 0 --namesrv.port "$(port)" \
    --log.segment.bytes 16m >>"$folder/wiped.log" 2>&1 &
writer_pid=$!
wait_log "$folder/wiped.log" ready 0
status=0
timeout 60 "$relay" run --broker "127.0.0.1:$wiped_port" --check.listen off >>"$folder/refused.log" 2>&1 || status=$?
[ "$status" = 4 ] || fail "a broker without the position: status $status"
grep -q "has no position of source .* rows were published. Start with the --broker that has it" "$folder/refused.log" ||
    fail "the refusal does not say what to do"
kill -TERM "$writer_pid"
wait "$writer_pid" || fail "escrowd: status $?"
writer_pid=

# --- The broker's data folder is put back to an older copy. While the outbox has what is missing it is published again; when some of it
# is truncated the relay refuses, and --adopt publishes what is left.
stop() {
    kill -TERM "$1"
    wait "$1" || fail "$2: status $?"
}
put_back() {
    stop "$escrowd_pid" escrowd
    rm -rf "$folder/data"
    cp -a "$folder/older" "$folder/data"
    start_escrowd
}
bodies() { "$cli" consume orders --namesrv "127.0.0.1:$namesrv_port" --json | grep -o '"body":"put back [^"]*"' | sort | uniq -c; }
start_relay --rotate.bytes 64m
sql "SELECT escrow.publish('orders', 'put back 1')" >/dev/null
wait_drained
stop "$escrowd_pid" escrowd
rm -rf "$folder/older"
cp -a "$folder/data" "$folder/older"
start_escrowd
sql "SELECT escrow.publish('orders', 'put back 2')" >/dev/null
wait_drained
put_back
sql "SELECT escrow.publish('orders', 'put back 3')" >/dev/null
wait_log "$folder/relay.log" outbox.relay.put_back 0
wait_drained
[ "$(bodies | wc -l)" = 3 ] || fail "after a restored broker: $(bodies)"
stop "$relay_pid" relay
start_relay
for ((i = 0; i < 600; i++)); do # until 'put back 3' is truncated
    sql "SELECT count(escrow.publish('orders', 'filler')) FROM generate_series(1, 500)" >/dev/null
    [ "$(sql "SELECT count(*) FROM escrow.outbox WHERE convert_from(body, 'UTF8') = 'put back 3'")" = 0 ] && break
    read -r -t 0.05 <>"$folder/never" || true
done
stop "$relay_pid" relay
relay_pid=
put_back
sql "SELECT escrow.publish('orders', 'put back 4')" >/dev/null
status=0
timeout 60 "$relay" run --broker "127.0.0.1:$broker_port" --check.listen off >"$folder/refused.log" 2>&1 || status=$?
[ "$status" = 4 ] || fail "a broker put back too far: status $status"
grep -q "the broker was put back to an older state .* rows of transactions [0-9]* to [0-9]*, " "$folder/refused.log" ||
    fail "the refusal does not say what is missing"
word=$(grep -o -- '--adopt=[0-9]*/[0-9]*' "$folder/refused.log" | head -n 1)
start_relay "$word"
wait_drained
bodies | grep -q 'put back 4' || fail "what the outbox still had is not published"
stop "$relay_pid" relay
start_relay
wait_drained
stop "$relay_pid" relay
relay_pid=

# --- A topic that the broker has not and may not make: its rows are parked in order and it is named, the others arrive. When it is
# made, its rows go out by themselves, and when somebody says so at once.
kill -TERM "$escrowd_pid"
wait "$escrowd_pid" || fail "escrowd: status $?"
start_escrowd --topic.auto.create false
sql "SELECT escrow.publish('orders', 'before'), escrow.publish('nowhere', 'parked 1', ordering_key => 'k'),
    escrow.publish('orders', 'after'), escrow.publish('nowhere', 'parked 2', ordering_key => 'k')" >/dev/null
start_relay --topic.wait.ms 100
wait_drained
grep -q "for topic nowhere: .*parked with all that comes for the topic" "$folder/relay.log" || fail "the refused row is not named"
"$relay" status | grep -q "all of the topic" || fail "the status does not show what is held"
"$relay" replay >/dev/null 2>"$folder/usage.log" && fail "replay without a condition"
"$relay" replay "no such condition" >/dev/null 2>"$folder/usage.log" && fail "replay with a wrong condition"
[ "$("$relay" replay "topic = 'elsewhere'")" = "0 rows will be published again" ] || fail "replay of nothing"
"$cli" consume orders --namesrv "127.0.0.1:$namesrv_port" --json >"$folder/messages.json"
[ "$(grep -c -e '"before"' -e '"after"' "$folder/messages.json")" = 2 ] || fail "other rows of the transaction are missing"
"$cli" topics create nowhere --namesrv "127.0.0.1:$namesrv_port" >/dev/null
sql "SELECT escrow.publish('nowhere', 'parked 3', ordering_key => 'k')" >/dev/null
"$relay" replay "topic = 'nowhere'" >/dev/null
for ((i = 0; i < 600; i++)); do
    [ "$(sql "SELECT count(*) FROM escrow.outbox_parked")" = 0 ] && break
    read -r -t 0.05 <>"$folder/never" || true
done
wait_drained
"$cli" consume nowhere --namesrv "127.0.0.1:$namesrv_port" --json |
    python3 -c 'import json, sys
got = [row["body"] for row in sorted(map(json.loads, sys.stdin), key=lambda row: row["queueOffset"])]
assert got == ["parked 1", "parked 2", "parked 3"], got' || fail "what was parked is not published, or not in order"

# --- Inside TLS, with certificates on both sides. A broker that cannot be trusted is one that is not there: nothing is parked.
made() { openssl "$@" >/dev/null 2>"$folder/openssl.err" || fail "openssl $*: $(cat "$folder/openssl.err")"; }
for name in ca other; do
    made req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -days 2 -keyout "$folder/$name.key" \
        -out "$folder/$name.pem"
done
made req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=both -keyout "$folder/both.key" -out "$folder/both.csr"
echo 'subjectAltName = IP:127.0.0.1' >"$folder/names"
made x509 -req -in "$folder/both.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -days 2 -extfile "$folder/names" -out "$folder/both.pem"
kill -TERM "$relay_pid"
wait "$relay_pid" || fail "relay: status $?"
kill -TERM "$escrowd_pid"
wait "$escrowd_pid" || fail "escrowd: status $?"
start_escrowd --tls.mode enforcing --tls.cert.file "$folder/both.pem" --tls.key.file "$folder/both.key" \
    --tls.ca.file "$folder/ca.pem" --tls.client.cert required
sql "SELECT escrow.publish('orders', 'inside')" >/dev/null
from=$(lines "$folder/relay.log")
start_relay --tls on --tls.ca.file "$folder/other.pem"
wait_log "$folder/relay.log" tcp.tls.failed "$from"
wait_log "$folder/relay.log" outbox.relay.failed "$from"
kill -TERM "$relay_pid"
wait "$relay_pid" || fail "relay: status $?"
[ "$(lag)" = 1 ] || fail "a row went past a broker that is not trusted"
[ "$(sql "SELECT count(*) FROM escrow.outbox_parked")" = 0 ] || fail "a row was parked"
start_relay --tls on --tls.ca.file "$folder/ca.pem" --tls.cert.file "$folder/both.pem" --tls.key.file "$folder/both.key"
wait_drained
ESCROW_TLS=on ESCROW_TLS_CA_FILE=$folder/ca.pem ESCROW_TLS_CERT_FILE=$folder/both.pem ESCROW_TLS_KEY_FILE=$folder/both.key \
    "$cli" consume orders --namesrv "127.0.0.1:$namesrv_port" --json >"$folder/messages.json"
grep -q '"inside"' "$folder/messages.json" || fail "the row did not arrive"
echo "test_program: all is well"
