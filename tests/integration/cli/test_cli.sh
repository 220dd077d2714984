#!/usr/bin/env bash
# The command line against a real escrowd on free ports of loopback: what each command prints, and its exit status.
#
# usage: test_cli.sh ESCROW ESCROWD
# Prints every check that fails, and all of the broker's log then. Exit status 0 only if none failed.
set -euo pipefail

escrow=$1
escrowd=$2
# shellcheck source=tests/lib/cli_checks.sh
. "$(dirname "$0")/../../lib/cli_checks.sh"

start() { # OPTION...: the broker of this test
    start_escrowd data --namesrv.port 0 "$@"
    export ESCROW_NAMESRV=$namesrv
}
stop() { end data TERM; }
# The output is JSON, as --help says: one document, or one object per line.
is_json() {
    checks=$((checks + 1))
    python3 - "$work/out" "$1" <<'PY' || fault "no JSON ($1): $out"
import json, sys
def never(word): raise ValueError(word)
text = open(sys.argv[1], encoding="utf-8").read()
documents = text.splitlines() if sys.argv[2] == "lines" else [text]
for document in documents:
    json.loads(document, parse_constant=never)
PY
}
# One line, whatever went wrong.
one_line() { is "$(wc -l <"$work/err")" 1; }
field() { sed -n "s/.*\"$2\":\"\{0,1\}\([^,\"}]*\).*/\1/p" <<<"$1" | head -n 1; }

# ---- usage, without a broker ----

for bad in "consume orders --from -1" "consume orders --count 0" "message 00"; do
    # shellcheck disable=SC2086
    expect 2 $bad
    one_line
done
for printing in "$escrow --help" "$escrow --version" "$escrow consume --help" "$escrowd --help" "$escrowd --version" "$escrowd --print-config"; do
    checks=$((checks + 1))
    status=0
    # shellcheck disable=SC2086
    $printing >/dev/full 2>"$work/err" || status=$?
    [ "$status" -eq 1 ] || fault "$printing to a full disk: status $status"
    has "$(cat "$work/err")" 'standard output: cannot be written'
    status=0
    # shellcheck disable=SC2086
    $printing >&- 2>"$work/err" || status=$?
    [ "$status" -eq 1 ] || fault "$printing with standard output closed: status $status"
    has "$(cat "$work/err")" 'standard output: cannot be written'
done

export ESCROW_NAMESRV=127.0.0.1:1
expect 0 --help
for command in produce consume topics groups transactions decide message copy status skip-damaged dump verify bench; do
    has "$out" "^  $command "
done
commands=$(sed -n 's/^  \([a-z-]*\) .*/\1/p' <<<"$out")
for command in $commands; do
    expect 0 "$command" --help
    has "$out" "^usage: escrow $command"
    expect 2 "$command" --no-such-option
    one_line
    has "$err" "escrow $command --help"
done
expect 2 nonsense
one_line
expect 2 produce
expect 2 decide commit 5
has "$err" '\-\-yes'
expect 2 skip-damaged T 0
expect 2 skip-damaged T 0 nine --yes
expect 2 skip-damaged T 0 9 --to 8 --yes
expect 2 skip-damaged T 0 9
has "$err" '\-\-yes'
expect 1 status --timeout 2s
one_line
has "$err" 'ESCROW_ECONN.*--namesrv'
expect 3 verify "$work/nothing"
expect 3 dump "$work/nothing"
expect 0 verify --help
has "$out" '3 no such folder'
expect 2 status --timeout 0
has "$err" '\-\-timeout'
expect 2 status --namesrv nonsense
has "$err" 'host:port'
for addr in 127.0.0.1 : 127.0.0.1: 127.0.0.1:0 127.0.0.1:65536 :10911 '' "$(printf '%0200d:1' 0)"; do
    expect 2 status --addr "$addr"
    has "$err" "--addr '$(printf %.100s "$addr")': expected host:port, as in 127.0.0.1:10911"
    one_line
done
for command in topics "topics create T" "produce T x" "consume T" "bench producer"; do
    # shellcheck disable=SC2086
    expect 2 $command --addr 127.0.0.1
    has "$err" "--addr '127.0.0.1': expected host:port"
done
expect 2 status --access-key k --secret-key-file "$work/nothing"
has "$err" "$work/nothing: No such file"
expect 1 bench producer --timeout 1s
has "$err" '^escrow: bench: no name server answers'
for option in ca cert key; do
    expect 2 status --tls on "--tls-$option-file" "$work/nothing"
    has "$err" "$work/nothing: No such file"
    one_line
done
ESCROW_TIMEOUT=soon expect 2 status
has "$err" "ESCROW_TIMEOUT 'soon'"
expect 2 status --json --prometheus
expect 2 bench producer --duration 0
expect 2 bench producer --driver redis
has "$err" '\-\-addr'

# ---- messages ----

start
expect 0 produce T1 'hello' $'two\x1b[2J' --key k1 --tag a --property colour=red
is "$(wc -l <<<"$out")" 2
id=${out%% *}
expect 0 message "$id"
has "$out" '^T1/[0-9]+ @0 '
has "$out" 'colour = red'
has "$out" '^  hello$'
expect 0 message T1 k1
has "$out" 'two\\x1b\[2J'
expect 0 message T1 k1 --json
has "$out" '"body":"hello"'
expect 3 message T1 no-such-key
one_line
expect 2 message not-an-id
expect 1 produce T1 x --property KEYS=y
has "$err" reserved

printf 'l1\nl2\n\nl3' >"$work/lines"
is "$("$escrow" produce Lines --json --ordering-key same <"$work/lines" | wc -l)" 3
expect 0 consume Lines
is "$out" $'l1\nl2\nl3'
head -c 100000 /dev/urandom >"$work/blob"
expect 0 produce Blob --file "$work/blob"
"$escrow" consume Blob | head -c 100000 | cmp - "$work/blob" || fault "a file came back different"
expect 0 consume Blob --json
has "$out" '"size":100000,"bodyBase64"'

# A group goes on where it was; --from and --count.
expect 0 consume Lines --group g1 --count 2
is "$out" $'l1\nl2'
expect 0 groups g1
has "$out" 'g1 +Lines .* 2 +3 +1 +0'
expect 0 consume Lines --group g1
is "$out" l3
expect 0 consume Lines --group g1
is "$out" ""
expect 0 groups g1 --json
has "$out" '"lag":0'
expect 3 groups no-such-group
expect 0 consume Lines --from last
is "$out" ""
expect 0 consume T1 --tag none
is "$out" ""
expect 3 consume NoSuchTopic
one_line

# --sql: the broker decides; a mistake is one line with its column.
expect 0 produce Sql red --property color=red --property n=3
expect 0 produce Sql blue --property color=blue --property n=7
expect 0 consume Sql --sql "color = 'blue' AND n BETWEEN 5 AND 9"
is "$out" blue
expect 0 consume Sql --sql "color = 'red'" --group sqlgroup --json
has "$out" '"n":"3"'
expect 0 consume Sql --sql "n > 100"
is "$out" ""
expect 1 consume Sql --sql "n >"
one_line
has "$err" 'column 4: expected a property, a value'
expect 2 consume Sql --sql "n > 1" --tag x

# --follow sees what comes later, and ends at SIGINT with what it has.
"$escrow" consume Follow --follow >"$work/followed" 2>/dev/null &
follower=$!
kill -0 "$follower" 2>/dev/null && wait "$follower" && fault "following a topic that does not exist went well"
expect 0 topics create Follow --queues 2
"$escrow" consume Follow --follow >"$work/followed" 2>"$work/follow.err" &
follower=$!
expect 0 produce Follow later --quiet
for ((i = 0; i < 200; i++)); do
    ! grep -q later "$work/followed" || break
    pause
done
kill -TERM "$follower"
wait "$follower" || fault "consume --follow did not end well: $(cat "$work/follow.err")"
is "$(cat "$work/followed")" later

# A broker that is killed and started again: --follow waits for it, and says so; without, that is an error.
expect 0 topics create Restart --queues 2
: >"$work/restart"
"$escrow" consume Restart --group restarted --follow >"$work/restart" 2>"$work/restart.err" &
follower=$!
expect 0 produce Restart before --quiet
for ((i = 0; i < 400; i++)); do
    ! grep -q before "$work/restart" || break
    pause
done
end data KILL
for ((i = 0; i < 400; i++)); do
    ! grep -q 'consume Restart: waiting' "$work/restart.err" || break
    pause
done
expect 1 consume Restart
start --namesrv.port "${ESCROW_NAMESRV##*:}" --broker.port "${broker##*:}"
expect 0 produce Restart after --quiet
for ((i = 0; i < 400; i++)); do
    ! grep -q after "$work/restart" || ! grep -q 'it goes on' "$work/restart.err" || break
    pause
done
kill -TERM "$follower"
wait "$follower" || fault "consume --follow did not end well: $(cat "$work/restart.err")"
is "$(cat "$work/restart")" $'before\nafter'
is "$(grep -c 'waiting until' "$work/restart.err")" 1
is "$(grep -c 'consume Restart: it goes on' "$work/restart.err")" 1

# Queue files that are lost are rebuilt for who asks; that takes a moment, in which one asks again.
expect 0 topics create Lost --queues 1
seq 5000 | "$escrow" produce Lost --quiet || fault "lines were not stored"
stop
rm -r "$work/data/queues/Lost"
start
is "$("$escrow" consume Lost | cksum)" "$(seq 5000 | cksum)"

# A delay, a level, a time of day: they come later. What is no time is refused.
expect 2 produce Later x --delay 1s --delay-level 2
expect 2 produce Later x --deliver-at tomorrow
expect 0 topics create Later --queues 1
expect 0 produce Later by-delay --delay 200ms --quiet
expect 0 produce Later by-time --deliver-at "$(($(date +%s%3N) + 300))" --quiet
expect 0 produce Later much-later --deliver-at "$(date -u -d '+2 days' +%Y-%m-%dT%H:%M:%SZ)" --quiet
expect 1 produce Later too-late --delay 100h
has "$err" 'max delay'
: >"$work/later" # the first look may come before the redirection
"$escrow" consume Later --follow >"$work/later" 2>"$work/later.err" &
follower=$!
for ((i = 0; i < 400; i++)); do
    ! grep -q by-time "$work/later" || break
    pause
done
kill -TERM "$follower"
wait "$follower" || fault "consume --follow did not end well: $(cat "$work/later.err")"
is "$(cat "$work/later")" $'by-delay\nby-time'
expect 0 status --json
has "$out" '"held_now":1'

# Two members share the queues, each message comes once; who leaves hands over to the other.
wait_text() { # FILE... has N lines in all
    local want=$1 i
    shift
    for ((i = 0; i < 400; i++)); do
        [ "$(cat "$@" | wc -l)" -lt "$want" ] || return 0
        pause
    done
    fault "$want lines expected: $(cat "$@" | wc -l) in $*"
}
wait_members() {
    local i
    checks=$((checks + 1))
    for ((i = 0; i < 400; i++)); do
        ! "$escrow" groups "$1" --json 2>&1 | grep -q "\"members\":$2[,}]" || return 0
        pause
    done
    fault "group $1 has no $2 members: $("$escrow" groups "$1")"
}
expect 0 topics create Shared --queues 4
seq 1 8 | "$escrow" produce Shared --quiet
"$escrow" consume Shared --group both --follow >"$work/one" 2>"$work/one.err" &
one=$!
wait_members both 1
"$escrow" consume Shared --group both --follow >"$work/two" 2>"$work/two.err" &
two=$!
wait_members both 2
seq 9 40 | "$escrow" produce Shared --quiet
wait_text 40 "$work/one" "$work/two"
is "$(sort -n "$work/one" "$work/two" | uniq | wc -l)" 40
[ -s "$work/one" ] || fault "the first member got nothing"
[ -s "$work/two" ] || fault "the second member got nothing"
kill -TERM "$one"
wait "$one" || fault "a member did not end well: $(cat "$work/one.err")"
wait_members both 1
seq 41 60 | "$escrow" produce Shared --quiet
wait_text 60 "$work/one" "$work/two"
is "$(sort -n "$work/one" "$work/two" | uniq -c | awk '$1 == 1' | wc -l)" 60
is "$(sort -n "$work/two" | tail -n 20 | tr '\n' ' ')" "$(seq -s ' ' 41 60) "
kill -TERM "$two"
wait "$two" || fault "a member did not end well: $(cat "$work/two.err")"
wait_members both 0
expect 0 groups both
has "$out" 'both +Shared .* 0 +0$'
expect 2 consume Shared --group 'not valid'

# ---- topics, status ----

expect 0 topics
has "$out" '^T1$'
expect 0 topics create Made --queues 3
expect 0 topics show Made --json
is "$(grep -o '"queue"' <<<"$out" | wc -l)" 3
expect 3 topics show NoSuchTopic
expect 2 topics create Made --queues 0
expect 0 topics
is "$(grep -cE '^(TBW102|SELF_TEST_TOPIC|OFFSET_MOVED_EVENT|TRANS_CHECK_MAX_TIME_TOPIC|%.*)$' <<<"$out")" 0
has "$out" '^Made$'
expect 0 topics --all
has "$out" '^TRANS_CHECK_MAX_TIME_TOPIC$'

expect 0 topics create Made --queues 3 --json
is "$(sed 's/127.0.0.1:[0-9]*/ADDR/; s/"broker":"[^"]*"/"broker":"B"/' <<<"$out")" '[{"topic":"Made","broker":"B","addr":"ADDR","queues":3}]'
expect 1 topics create Made --json --addr 127.0.0.1:1 --timeout 1s
is "$out" ""
one_line

# Whatever --json prints can be read by what reads JSON; what fails prints one line of text, on standard error.
while read -r form line; do
    # shellcheck disable=SC2086
    expect 0 $line --json
    is_json "$form"
    has "$out" .
    is "$err" ""
done <<'LINES'
lines produce Json one two --key k --property a="b
lines produce JsonTxn x --half --group pj
lines consume Json
lines message Json k
document topics
document topics show Json
document topics create Json
document groups
document transactions
document transactions --state EXPIRED
document status
document bench producer --count 10 --topic JsonBench
document bench txn --count 10 --topic JsonTxn
document bench consumer --count 10 --topic JsonBench
LINES
"$escrow" decide rollback "$(field "$("$escrow" transactions --group pj --json)" offset)" --yes --json >"$work/out" || fault "decide: $?"
is_json lines
for line in "topics show None" "groups none" "message Json none"; do
    # shellcheck disable=SC2086
    expect 3 $line --json
    is "$out" ""
    one_line
done

# --addr: that broker alone; no name server, and no other broker, is asked.
expect 0 produce Made at-this-broker
expect 0 consume Made --addr "$broker" --namesrv 127.0.0.1:1
is "$out" at-this-broker
expect 0 topics --addr "$broker" --namesrv 127.0.0.1:1
has "$out" '^Made$'
expect 0 topics show Made --addr "$broker" --namesrv 127.0.0.1:1 --json
is "$(grep -o '"queue"' <<<"$out" | wc -l)" 3
expect 3 topics show NoSuchTopic --addr "$broker" --namesrv 127.0.0.1:1
expect 1 topics show Made --addr 127.0.0.1:1 --timeout 1s
expect 1 topics --addr 127.0.0.1:1 --timeout 1s
expect 0 status
has "$out" 'messages_in +[0-9]+'
expect 0 status --prometheus
has "$out" '^# TYPE escrow_[a-z_]+ (counter|gauge)$'
has "$out" '^escrow_messages_in\{broker="[^"]+"\} [0-9]+$'
expect 0 status --json --addr "$broker"

# ---- transactions ----

expect 0 produce Txn one --half --group pg --json
offset=$(field "$out" halfOffset)
expect 0 produce Txn two --half --group pg --json
txn=$(field "$out" transactionId)
expect 0 consume Txn
is "$out" ""
expect 0 transactions --group pg
is "$(grep -c PREPARED <<<"$out")" 2
expect 0 transactions --older-than 1h
is "$out" none
# Ages are on the broker's clock: here is one that is two hours ahead of it.
cc -shared -fPIC -o "$work/ahead.so" -x c - <<'C'
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, ts);
    ts->tv_sec += rc == 0 && clock == CLOCK_REALTIME ? 7200 : 0;
    return rc;
}
C
ahead() { LD_PRELOAD=$work/ahead.so ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0 "$@"; }
ahead expect 0 transactions --older-than 1h
is "$out" none
ahead expect 0 transactions --group pg
is "$(grep -c PREPARED <<<"$out")" 2
is "$(grep -Ec '[0-9]h[0-9]' <<<"$out")" 0
expect 0 transactions --older-than 9223372036854775808ms
is "$out" none
expect 0 transactions --state EXPIRED --json
is "$out" '[]'
for state in nonsense prepared COMMITTED ''; do
    expect 2 transactions --state "$state"
    has "$err" "--state '$state': expected one of APPENDING, PREPARED, CHECKING, EXPIRING, EXPIRED, COMMITTING, ROLLING_BACK;"
    one_line
done
for state in PREPARED EXPIRED ROLLING_BACK; do
    expect 0 transactions --state "$state"
done
expect 0 decide commit "$offset" --yes
has "$out" committed
expect 0 decide commit "$offset" --yes
expect 1 decide rollback "$offset" --yes
has "$err" 'committed'
expect 0 decide rollback "$txn" --yes --json
has "$out" '"decided":"rolled back"'
expect 3 decide commit no-such-id --yes
has "$err" 'neither undecided nor remembered'
one_line
expect 0 consume Txn
is "$out" one

# A decision by id, made again: the broker remembers it by group and id.
expect 0 decide rollback "$txn" --group pg --yes
has "$out" 'rolled back'
expect 1 decide commit "$txn" --group pg --yes
has "$err" 'rolled back'
expect 0 decide rollback "$txn" --yes
has "$out" 'rolled back'
expect 1 decide commit "$txn" --yes
has "$err" 'rolled back'
expect 3 decide rollback "$txn" --group other --yes

# One id in two producer groups: neither is decided without saying which.
twice="twice-0000000000000000000000000000"
for group in pg1 pg2; do
    header='{"code":310,"flag":0,"opaque":1,"version":409,"language":"JAVA","extFields":{"a":"'$group'","b":"Txn","c":"TBW102","d":"4","e":"0","f":"0","g":"1","h":"0","i":"UNIQ_KEY\u0001'$twice'\u0002TRAN_MSG\u0001true\u0002PGROUP\u0001'$group'\u0002"}}'
    exec 9<>"/dev/tcp/${broker%:*}/${broker##*:}"
    size=$((${#header} + 5)) # the header, its length, one byte of body
    # shellcheck disable=SC2059
    printf "$(printf '\\x%02x' 0 0 $((size / 256)) $((size % 256)) 0 0 $((${#header} / 256)) $((${#header} % 256)))" >&9
    printf '%sx' "$header" >&9
    head -c 1 <&9 >"$work/answer"
    exec 9>&-
done
expect 0 transactions --json
is "$(grep -o "$twice" <<<"$out" | wc -l)" 2
expect 1 decide commit "$twice" --yes
has "$err" '\(pg1, pg2\): say which with --group'
one_line
expect 0 transactions --json
is "$(grep -o "$twice" <<<"$out" | wc -l)" 2
expect 0 decide commit "$twice" --group pg2 --yes
expect 0 transactions --group pg1
has "$out" PREPARED

# Decided in one group, undecided in the other: still nobody's to guess. So after a restart, from checkpoint and log.
for ((round = 0; round < 2; round++)); do
    expect 1 decide rollback "$twice" --yes
    has "$err" '(pg1, pg2|pg2, pg1)\): say which with --group'
    one_line
    expect 0 transactions --group pg1
    has "$out" PREPARED
    expect 1 decide rollback "$twice" --group pg2 --yes
    has "$err" 'committed'
    if [ "$round" -eq 0 ]; then
        stop
        start
    fi
done
expect 0 decide rollback "$twice" --group pg1 --yes

# ---- bench: every mode, and that it counts what happened ----

for header in json rocketmq msgpack; do
    expect 0 bench producer --count 500 --connections 4 --window 8 --header $header --json --topic "Bench-$header"
    is "$(field "$out" messages)" 500
    expect 0 bench consumer --count 500 --header $header --json --topic "Bench-$header"
    is "$(field "$out" errors)" 0
    for end in confirmed answered oneway; do
        expect 0 bench txn --count 200 --window 10 --rollback 10 --leave 5 --header $header --end $end --json --topic BenchTxn
        is "$(field "$out" left)" 10
        is "$(field "$out" rolledBack)" 20
        is "$(field "$out" committed)" 170
    done
done
expect 0 bench producer --count 50 --delay 1h --topic Bench-later --json
is "$(field "$("$escrow" status --json)" held_now)" 51 # and the one of two days
expect 0 bench producer --rate 1000 --count 300 --window 4 --connections 2 --json
is "$(field "$out" messages)" 300
expect 0 bench producer --duration 200ms --warmup 50ms --server-pid "${pids[data]}"
has "$out" 'p50 .* p90 .* p99 .* p99.9 .* max'
expect 2 bench producer --size 0
# Interrupted while it measures, or before: what there is, and the status says so.
bench_topic=0
for signal in INT TERM; do
    for options in "--warmup 0" "--warmup 0 --json --connections 2 --window 8" "--warmup 1h --json"; do
        bench_topic=$((bench_topic + 1))
        checks=$((checks + 1))
        # shellcheck disable=SC2086
        "$escrow" bench producer --duration 1h --topic "Interrupted$bench_topic" $options >"$work/out" 2>"$work/err" &
        bench=$!
        for ((i = 0; i < 600; i++)); do
            ! "$escrow" topics show "Interrupted$bench_topic" --json 2>/dev/null | grep -q '"max":[1-9]' || break
            pause
        done
        kill -s "$signal" "$bench"
        status=0
        wait "$bench" || status=$?
        [ "$status" -eq 130 ] || fault "bench $options, $signal: status $status, $(cat "$work/out" "$work/err")"
        is "$(cat "$work/err")" ""
        case $options in
        *1h*) is "$(field "$(cat "$work/out")" messages)" 0 ;;
        *json*) has "$(cat "$work/out")" '"messages":[1-9]' ;;
        *) has "$(cat "$work/out")" '^  messages +[1-9]' ;;
        esac
    done
done
# Names in which the generator would patch its numbers are refused.
for topic in A5C35A3C96E1 1987654321 1787654321987; do
    expect 1 bench producer --count 10 --header json --topic "$topic"
    has "$err" 'mark of the generator'
    one_line
done
expect 1 bench producer --addr 127.0.0.1:1 --timeout 1s

# What could not be written is no success, however long; nor is it when there is nowhere to write.
for asking in status topics "topics show Bench --json" "bench producer --count 10"; do
    for how in full closed; do
        checks=$((checks + 1))
        status=0
        # shellcheck disable=SC2086
        case $how in
        full) "$escrow" $asking >/dev/full 2>"$work/err" || status=$? ;;
        closed) "$escrow" $asking <&- >&- 2>"$work/err" || status=$? ;;
        esac
        [ "$status" -eq 1 ] || fault "escrow $asking, standard output $how: status $status"
        has "$(cat "$work/err")" 'standard output: cannot be written'
    done
done
status=0
"$escrow" topics <&- >&- 2>&- || status=$?
is "$status" 1
"$escrow" produce Closed x --quiet <&- 2>&- || fault "produce without standard input and error: status $?"

# Closed pipes end quietly.
status=0
"$escrow" status 2>"$work/err" | head -n 1 >/dev/null || status=$?
[ ! -s "$work/err" ] || fault "a closed pipe was complained about: $(cat "$work/err")"

# ---- the data folder ----

expect 1 verify "$work/data"
has "$err" ESCROW_ELOCKED
expect 1 dump "$work/data"
stop
expect 0 verify "$work/data"
has "$out" '^sound$'
expect 0 verify "$work/data" --json
has "$out" '"findings":0'
is_json document
expect 0 dump "$work/data" --json
is_json lines
expect 0 dump "$work/data" --count 3
is "$(wc -l <<<"$out")" 3
has "$out" ' START '
segment=$(find "$work/data/log" -type f | sort | head -n 1)
expect 0 dump "$segment" --json
is "$(grep -c '"type":"HALF"' <<<"$out")" "$((4 + 1 + 10 + 9 * 200))"
has "$out" '"type":"RELEASE".*"kind":"due"'
has "$out" '"body":"hello"'

# Many findings: the first hundred, and how many there are; all of them when asked for.
cp -r --sparse=always "$work/data" "$work/bad"
while read -r at _; do
    printf '\377' | dd of="$work/bad/log/$(basename "$segment")" bs=1 seek="$((at + 60))" conv=notrunc status=none
done < <("$escrow" dump "$work/data" | awk '$4 == "HALF"' | head -n 150)
expect 1 verify "$work/bad" --all
all=$(wc -l <"$work/err")
[ "$all" -ge 150 ] || fault "$all findings of 150 and more"
has "$out" "^findings +$all$"
expect 1 verify "$work/bad"
is "$(wc -l <"$work/err")" 101
has "$err" "^escrow: verify: $((all - 100)) more findings; --all shows them$"
has "$out" "^findings +$all$"
rm -r "$work/bad"

# What is no file in the place of one: a line, and no waiting for the other end of a pipe.
cp -r --sparse=always "$work/data" "$work/pipe"
rm "$work/pipe/log/$(basename "$segment")"
mkfifo "$work/pipe/log/$(basename "$segment")"
for command in verify dump; do
    expect 1 "$command" "$work/pipe"
    has "$err" "$(basename "$segment"): not a regular file"
    one_line
done
rm -r "$work/pipe"

# --from behind the end of the log: one line that says where it ends, whatever lies there.
for from in 18446744073709551615 99999999999999 $((1 << 30)) $((1 << 26)) $(((1 << 26) - 4)) $(((1 << 26) - 800)); do
    expect 3 dump "$work/data" --from "$from"
    one_line
    has "$err" "nothing at log offset $from: the log ends at [0-9]+ "
    is "$out" ""
done
end=$(sed -n 's/.*ends at \([0-9]*\) .*/\1/p' <<<"$err")
expect 0 dump "$work/data" --from "$end"
is "$out$err" ""
expect 3 dump "$work/data" --from "$((end + 8))"
cp -r --sparse=always "$work/data" "$work/killed"
rm "$work/killed/checkpoint" # which else vouches for what is before it
expect 0 dump "$work/killed"
last=$(tail -n 1 <<<"$out" | awk '{print $1}')
expect 3 dump "$work/killed" --from "$((last + 8))"
has "$err" "no record begins at log offset $((last + 8)); the log ends at $end "
rm -r "$work/killed"
expect 3 dump "$segment" --from $((1 << 26))
has "$err" 'the segment ends at 67108864 '
for name in 00000000000000000008 00000000099999999999; do
    expect 3 dump "$work/data/log/$name"
    has "$err" 'no such folder or segment'
    one_line
done

# A byte of a stored body is turned: found, named, not repaired.
at=$(grep -abo hello "$segment" | head -n 1 | cut -d : -f 1)
printf 'J' | dd of="$segment" bs=1 seek="$at" conv=notrunc status=none
expect 1 verify "$work/data"
has "$err" "$(basename "$segment")|offset"
expect 1 dump "$work/data"
has "$err" ESCROW_ECORRUPT

# A server with none of the three descriptors serves and stops cleanly; nothing of its own gets their numbers.
"$escrowd" --data.dir "$work/silent" --broker.port 0 --broker.vip.port 0 --namesrv.port 0 --log.segment.bytes 64m \
    --disk.warning.ratio 100 <&- >&- 2>&- &
pids[silent]=$!
for ((i = 0; i < 600; i++)); do
    [ ! -e "$work/silent/log/00000000000000000000" ] || break
    pause
done
for fd in 0 1 2; do
    is "$(readlink "/proc/${pids[silent]}/fd/$fd")" /dev/null
done
end silent TERM

# ---- access control ----

umask 077
printf '[user %s]\naccess_key = %s-key\nsecret_key = %s-secret\n%s\n' root root root 'admin = true' \
    orders orders orders 'topics = orders=PUB' >"$work/users.conf"
printf 'root-secret\n' >"$work/root.secret"
printf 'orders-secret\n' >"$work/orders.secret"
rm -rf "$work/data"
start --acl.file "$work/users.conf"
expect 1 status
has "$err" 'not signed'
expect 2 status --access-key root-key
has "$err" 'belong together'
expect 1 status --access-key root-key --secret-key-file "$work/orders.secret"
has "$err" 'signature'
expect 0 status --access-key root-key --secret-key-file "$work/root.secret"
has "$out" 'access_unsigned'
export ESCROW_ACCESS_KEY=orders-key ESCROW_SECRET_KEY_FILE=$work/orders.secret
expect 0 produce orders paid
expect 1 produce payroll paid
has "$err" 'user orders has no PUB on topic payroll'
expect 1 status
has "$err" 'user orders has no admin'
expect 2 bench producer
has "$err" 'does not sign'
unset ESCROW_ACCESS_KEY ESCROW_SECRET_KEY_FILE
stop

# ---- a damaged message ----

rm -rf "$work/data"
start
expect 0 topics create Rot --queues 1
expect 0 produce Rot rot-one rot-two rot-three
stop
segment=$work/data/log/00000000000000000000
at=$(grep -abo rot-two "$segment" | head -n 1)
printf R | dd of="$segment" bs=1 seek="${at%%:*}" conv=notrunc status=none
expect 1 verify "$work/data"
has "$err" 'entry 1 of queue Rot/0'
expect 1 dump "$work/data"
has "$err" 'goes on at --from [0-9]+'
from=$(sed -n 's/.*goes on at --from \([0-9]*\).*/\1/p' <<<"$err")
expect 0 dump "$work/data" --from "$from" --bodies
has "$out" rot-three
start
expect 1 consume Rot
has "$out$err" 'escrow skip-damaged Rot 0 1'
expect 1 skip-damaged Rot 0 0 --yes
has "$err" 'not damaged'
expect 3 skip-damaged Rot 0 9 --yes
expect 0 status --prometheus
has "$out" '^escrow_log_damaged_stops\{broker="[^"]+"\} 1$'
expect 0 skip-damaged Rot 0 1 --yes
has "$out" 'Rot queue 0: .* offsets 1 to 1'
expect 0 status --prometheus
has "$out" '^escrow_log_damaged_stops\{broker="[^"]+"\} 0$'
expect 0 consume Rot
is "$out" $'rot-one\nrot-three'
stop

# ---- TLS ----

# The certificates of server and client are of one authority.
authority
certificate server IP:127.0.0.1
certificate client DNS:client
rm -rf "$work/data"
start --tls.mode enforcing --tls.cert.file "$work/server.pem" --tls.key.file "$work/server.key" \
    --tls.ca.file "$work/ca.pem" --tls.client.cert required
expect 1 status --timeout 5s
has "$err" 'TLS connections only'
expect 1 status --timeout 5s --tls on
has "$err" 'certificate verify failed'
has "$err" ESCROW_ETLS
expect 1 status --timeout 5s --tls on --tls-ca-file "$work/ca.pem"
has "$err" 'certificate required'
expect 2 status --tls-ca-file "$work/ca.pem"
has "$err" 'TLS is off'
expect 2 status --tls perhaps
has "$err" 'off, on or insecure'
export ESCROW_TLS=on ESCROW_TLS_CA_FILE=$work/ca.pem ESCROW_TLS_CERT_FILE=$work/client.pem ESCROW_TLS_KEY_FILE=$work/client.key
expect 0 status
expect 0 produce orders paid
expect 0 consume orders --count 1
has "$out" paid
expect 1 status --timeout 5s --tls-server-name broker.example
has "$err" 'mismatch'
expect 0 status --tls insecure --tls-server-name broker.example
chmod 644 "$work/client.key"
expect 2 status
has "$err" 'others can get at the private key'
expect 2 bench producer
has "$err" 'does not speak TLS'
unset ESCROW_TLS ESCROW_TLS_CA_FILE ESCROW_TLS_CERT_FILE ESCROW_TLS_KEY_FILE
stop

report
