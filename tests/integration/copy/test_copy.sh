#!/usr/bin/env bash
# escrow copy between real escrowds: a source of two brokers, and a target.
#
# usage: test_copy.sh ESCROW ESCROWD
# Prints every check that fails, and the brokers' logs then. Exit status 0 only if none failed.
set -euo pipefail

escrow=$1
escrowd=$2
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/cli_checks.sh
. "$here/../../lib/cli_checks.sh"

start() { # NAME OPTION...: a broker of that name
    start_escrowd "$1" --broker.name "${1%-twin}" "${@:2}"
}
same() { # WHAT FILE FILE
    checks=$((checks + 1))
    cmp -s "$2" "$3" || fault "$1: $(wc -l <"$2") lines and $(wc -l <"$3") differ: $(diff "$2" "$3" | head -n 4)"
}
wire() { python3 "$here/wire.py" "$@"; }
# How many messages a topic has at the target.
count() {
    "$escrow" topics show "$1" --json 2>/dev/null | python3 -c 'import json, sys; print(sum(q["max"] for q in json.load(sys.stdin)))' 2>/dev/null || echo 0
}
# What a message is, apart from where it lies: one line each, in the order of its queue. BASE is added to the old queue.
messages() { # BASE, messages as JSON on standard input
    python3 -c '
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    print(m["queue"] + int(sys.argv[1]), m["queueOffset"] if len(sys.argv) > 2 else "", m["body"], m["bornMs"], m["sysFlag"], m["flag"],
          m["reconsumeTimes"], json.dumps({k: v for k, v in m["properties"].items()}, sort_keys=True))' "$@"
}

start old-a --namesrv.port 0
from=$namesrv a=$broker
start old-b --role broker --namesrv.addrs "$from"
b=$broker
start new --namesrv.port 0
new=$broker
export ESCROW_NAMESRV=$namesrv

# ---- usage ----

expect 2 copy
has "$err" '\-\-from'
expect 2 copy everything --from "$from"
has "$err" 'everything'
expect 1 copy --from 127.0.0.1:1 --timeout 2s
has "$err" 'ESCROW_ECONN.*--from'
is "$(wc -l <<<"$err")" 1
expect 1 copy --from "$from" --namesrv 127.0.0.1:1 --timeout 2s
has "$err" 'ESCROW_ECONN.*--namesrv'
expect 1 copy --from "$from" --namesrv "$from"
has "$err" '2 brokers.*--addr'
expect 1 copy --from "$from" --addr "$a"
has "$err" 'source and target'
expect 3 copy --from "$from" --broker nobody
has "$err" 'no such broker'

# ---- a source in use: groups at different places, retries, dead letters, what waits ----

expect 0 topics create orders --queues 2 --namesrv "$from"
expect 0 topics create idle --queues 3 --addr "$a"
wire "$a" ask 17 topic=odd readQueueNums=3 writeQueueNums=2 perm=6 order=true topicSysFlag=0 >/dev/null
wire "$a" ask 200 '{"groupName":"billing","retryMaxTimes":5,"consumeBroadcastEnable":false,"consumeFromMinEnable":false,"retryQueueNums":2}' >/dev/null
for queue in 0 1; do
    wire "$a" send-batch orders "$queue" 0 400 100
    wire "$b" send-batch orders "$queue" 0 300 100
done
wire "$a" ask 10 producerGroup=pg topic=orders defaultTopic=TBW102 defaultTopicQueueNums=4 queueId=1 sysFlag=0 bornTimestamp=1234 flag=77 \
    reconsumeTimes=0 $'properties=UNIQ_KEY\1flagged\2' '{a body}' >/dev/null
expect 0 consume orders --addr "$a" --namesrv "$from" --group billing --count 150
expect 0 consume orders --namesrv "$from" --group audit --count 900
expect 0 produce '%RETRY%billing' 'to be tried again' --addr "$a"
expect 0 produce '%DLQ%billing' 'given up' --addr "$b"
expect 0 produce orders delayed --addr "$a" --delay 1h
expect 0 produce orders half --addr "$a" --half

# ---- a dry run changes nothing ----

expect 0 copy --from "$from" --dry-run --topic 'o*'
has "$out" '^topic +orders +would be created: 4 queues'
has "$out" '^group +billing +would be created: 5 retries'
has "$out" '^messages +orders .*at old-b would be copied'
has_not "$out" 'idle'
is "$(count orders)" 0
expect 0 topics list
has_not "$out" 'orders'

# ---- topics and groups ----

expect 0 copy topics groups --from "$from"
has "$out" '^topic +orders +created: 4 queues'
has "$out" '^topic +idle +created: 3 queues'
has "$out" '^topic +odd +created: 3 queues read, 2 written, perm 6, ordered'
has "$out" '^topic +%RETRY%billing +created'
has "$out" '^group +billing +created'
has_not "$out" 'TBW102|old-a |SELF_TEST|BenchmarkTest|TOOLS_CONSUMER|DefaultCluster'
is "$(wire "$broker" ask 352 group=billing)" "$(wire "$a" ask 352 group=billing)"
is "$(wire "$broker" ask 351 topic=odd)" "$(wire "$a" ask 351 topic=odd)"
is "$(count orders)" 0
expect 0 copy topics groups --from "$from"
has_not "$out" 'created|changed|left'
expect 0 topics create idle --queues 5
wire "$broker" ask 200 '{"groupName":"billing","retryMaxTimes":9}' >/dev/null
expect 0 copy topics groups --from "$from"
has "$out" '^topic +idle +left alone: has 5 queues, perm 6; would be 3 queues'
has "$out" '^group +billing +left alone'
expect 0 copy topics groups --from "$from" --overwrite --dry-run
has "$out" '^topic +idle +would be changed: 3 queues'
expect 0 copy topics groups --from "$from" --overwrite
has "$out" '^topic +idle +changed: 3 queues'
has "$out" '^group +billing +changed'
is "$(wire "$broker" ask 352 group=billing)" "$(wire "$a" ask 352 group=billing)"

# Offsets before messages: there is nothing to tell them by, and it is said.
expect 1 copy offsets --from "$from"
has "$err" 'billing orders: [0-9]+ messages that the group has not consumed at old-a are not copied'

# ---- messages and offsets; a group goes on where it was ----

expect 0 copy --from "$from"
has "$out" '^messages +orders +[0-9]+ copied from old-a'
has "$out" '^messages +orders +600 copied from old-b'
has "$out" '^messages +%RETRY%billing +1 copied'
has "$out" '^messages +%DLQ%billing +1 copied'
has "$out" '^offsets +billing orders +set in 2 queues of old-a'
has "$err" 'old-a: 1 messages wait there'
has "$err" 'old-a: up to 1 half messages'
is "$(wc -l <<<"$err")" 2
total=$(count orders)

# Each message as it was, in its queue, in its order.
{
    "$escrow" consume orders --addr "$a" --json | messages 0
    "$escrow" consume orders --addr "$b" --json | messages 2
} | sort -s -n -k 1,1 >"$work/source"
"$escrow" consume orders --json | messages 0 | sort -s -n -k 1,1 >"$work/target"
is "$(wc -l <"$work/target")" "$total"
has "$(cat "$work/target")" '1234 0 77 0 .*flagged'
for queue in 0 1 2 3; do
    grep "^$queue " "$work/target" >"$work/copied" || :
    grep "^$queue " "$work/source" | tail -n "$(wc -l <"$work/copied")" >"$work/tail"
    same "queue $queue" "$work/copied" "$work/tail"
done
is "$(grep -c '^2 ' "$work/target")" 300 # billing has never read old-b

# A second time nothing happens.
expect 0 copy --from "$from"
has_not "$out" 'created|changed|copied|set in'
has "$out" '^offsets +billing orders +as they are in 2 queues'
is "$(count orders)" "$total"
expect 0 copy --from "$from" --json
python3 -c 'import json, sys; assert {"kind": "topic", "name": "odd", "result": "as it is"} in json.load(open(sys.argv[1]))' "$work/out" ||
    fault "not the JSON expected: $out"

# Each group gets at the target what it would have got at the source.
"$escrow" consume orders --group billing --json --namesrv "$from" | messages 0 | cut -d' ' -f3- | sort >"$work/source"
"$escrow" consume orders --group billing --json | messages 0 | cut -d' ' -f3- | sort >"$work/target"
has "$(cat "$work/target")" 'to be tried again'
same "billing" "$work/target" "$work/source"
"$escrow" consume orders --group audit --json --namesrv "$from" | messages 0 | cut -d' ' -f3- | sort >"$work/source"
"$escrow" consume orders --group audit --json | messages 0 | cut -d' ' -f3- | sort >"$work/target"
same "audit" "$work/target" "$work/source"

# What is new at the source comes behind; a group that is ahead at the target stays there.
wire "$a" send-batch orders 0 400 20 100
expect 0 copy --from "$from"
has "$out" '^messages +orders +20 copied from old-a'
has "$out" '^offsets +audit orders +as they are'
is "$(count orders)" $((total + 20))
is "$("$escrow" consume orders --group billing | wc -l)" 20

# ---- --topic alone: the groups that consume it, by an offset or a subscription, with their retry topics ----

expect 0 topics create alone --queues 1 --addr "$a"
wire "$a" send-batch alone 0 0 10 50
expect 0 consume alone --addr "$a" --namesrv "$from" --group reads --count 4
expect 0 produce '%RETRY%reads' 'to be tried again' --addr "$a"
expect 0 produce '%DLQ%billing' 'given up' --addr "$b"
"$escrow" consume alone --namesrv "$from" --group subscribes --follow >/dev/null 2>&1 &
pids[subscribes]=$!
for ((i = 0; i < 1200; i++)); do
    ! wire "$a" ask 300 topic=alone | grep -q subscribes || break
    pause
done
expect 0 copy --from "$from" --topic alone
end subscribes KILL
has "$out" '^topic +alone '
has "$out" '^topic +%RETRY%reads '
has "$out" '^group +reads '
has "$out" '^group +subscribes '
has "$out" '^messages +%RETRY%reads +1 copied'
has_not "$out" 'billing|audit|orders'
is "$("$escrow" consume alone --group reads | wc -l)" 7
expect 0 copy --from "$from" --topic alone --group 'a*' --dry-run
has "$out" '^group +audit '
has_not "$out" 'reads'

# ---- members, and others' messages ----

expect 0 topics create busy --queues 1 --addr "$a"
wire "$a" send-batch busy 0 0 30 50
expect 0 consume busy --addr "$a" --namesrv "$from" --group busy --count 10
expect 0 copy topics groups messages --from "$from" --topic busy --group busy
"$escrow" consume '%RETRY%busy' --group busy --follow >/dev/null 2>&1 &
pids[member]=$!
for ((i = 0; i < 1200; i++)); do
    ! wire "$broker" ask 203 consumerGroup=busy | grep -q '^0 ' || break
    pause
done
expect 1 copy offsets --from "$from" --topic busy --group busy
has "$err" 'busy busy: the group has members at the target'
end member KILL
for ((i = 0; i < 1200; i++)); do
    wire "$broker" ask 203 consumerGroup=busy | grep -q '^0 ' || break
    pause
done
listen proxy python3 "$here/proxy.py" "$broker" deny 203
expect 1 copy offsets --from "$from" --topic busy --group busy --addr "$at"
has "$err" 'copy busy: whether it has members at the target is not known, its offsets are left alone: .*\(ESCROW_EPERM\)'
has_not "$out" 'offsets'
end proxy KILL
expect 0 copy offsets --from "$from" --topic busy --group busy
has "$out" '^offsets +busy busy +set in 1 queues'
is "$("$escrow" consume busy --group busy | head -n 1 | cut -d' ' -f1)" busy/0/10

# Another's message was there before: a group that has not consumed it begins with it, and it is said what comes again behind it;
# --skip-others passes it over. A group that has consumed it goes on at its place.
expect 0 topics create mixed --queues 1 --addr "$a"
wire "$a" send-batch mixed 0 0 30 50
expect 0 consume mixed --addr "$a" --namesrv "$from" --group mixed --count 10
for group in ahead skips knows; do
    expect 0 consume mixed --addr "$a" --namesrv "$from" --group $group --count 25
done
mixed=(--from "$from" --topic mixed --group mixed --group ahead --group skips --group knows)
expect 0 copy topics groups "${mixed[@]}"
expect 0 produce mixed 'of another' --addr "$broker"
expect 0 consume mixed --group knows --count 1
expect 0 copy messages "${mixed[@]}"
has "$out" '^messages +mixed +20 copied'
expect 0 copy offsets --from "$from" --topic mixed --group skips --skip-others
expect 1 copy "${mixed[@]}"
has "$err" 'ahead mixed: in 1 queues others.* up to 15 messages again that it has consumed at old-a \(--skip-others'
is "$(wc -l <<<"$err")" 4 # what waits at the source, and the last line
has "$out" '^offsets +knows mixed +set in 1 queues'
is "$("$escrow" consume mixed --group mixed | head -n 2 | cut -d' ' -f1,2)" $'of another\nmixed/0/10 '"$(printf 'x%.0s' {1..39})"
is "$("$escrow" consume mixed --group ahead | wc -l)" 21
for group in skips knows; do
    is "$("$escrow" consume mixed --group $group | cut -d' ' -f1 | tr '\n' ' ')" 'mixed/0/25 mixed/0/26 mixed/0/27 mixed/0/28 mixed/0/29 '
done

# Between two copies another writes into the queue, and a group's place lies before that message, or behind it.
expect 0 topics create between --queues 1 --addr "$a"
wire "$a" send-batch between 0 0 30 50
expect 0 consume between --addr "$a" --namesrv "$from" --group between --count 10
expect 0 copy topics groups messages --from "$from" --topic between --group between
expect 0 produce between 'of another' --addr "$broker"
expect 0 consume between --addr "$a" --namesrv "$from" --group later --count 27
wire "$a" send-batch between 0 30 5 50
expect 0 consume between --addr "$a" --namesrv "$from" --group last --count 33
expect 1 copy --from "$from" --topic between --group between --group later --group last
has "$out" '^messages +between +5 copied'
has "$out" '^offsets +between between +set in 1 queues'
has "$out" '^offsets +later between +set in 1 queues'
has "$err" 'last between: in 1 queues others.* up to 3 messages again'
is "$("$escrow" consume between --group between | wc -l)" 26
is "$("$escrow" consume between --group later | wc -l)" 9
is "$("$escrow" consume between --group last | wc -l)" 6
expect 0 copy --from "$from" --topic between --group between --group later --group last
has "$out" '^offsets +between between +as they are'

# A group that was not there when messages were copied misses what nobody else needed: said, not hidden.
expect 0 consume busy --addr "$a" --namesrv "$from" --group late --count 3
expect 1 copy --from "$from" --topic busy --group late
has "$err" 'late busy: 7 messages that the group has not consumed at old-a are not copied'

# ---- broken off: the copy, or the target, is killed in the middle, or the copy is asked to stop; nothing is lost, nothing is there twice ----

# Let the copy of a topic run in small steps until some of its messages are there, but not all. False when it was too quick.
copy_some() { # TOPIC TOTAL
    local there=0
    "$escrow" copy topics messages --from "$from" --topic "$1" --group none >"$work/out" 2>"$work/err" </dev/null &
    pids[copy]=$!
    while kill -0 "${pids[copy]}" 2>/dev/null; do
        kill -STOP "${pids[copy]}" 2>/dev/null || break
        there=$(count "$1")
        if [ "$there" -gt 0 ]; then
            [ "$there" -lt "$2" ]
            return
        fi
        kill -CONT "${pids[copy]}"
        read -rt 0.005 -u "$never" || :
    done
    return 1
}
is_whole() { # TOPIC COUNT
    "$escrow" consume "$1" --addr "$a" --json | messages 0 >"$work/source"
    "$escrow" consume "$1" --json | messages 0 x | cut -d' ' -f1,3- | sed 's/ /  /' >"$work/target"
    is "$(wc -l <"$work/target")" "$2"
    same "$1" "$work/target" "$work/source"
}
for victim in copy new asked; do
    interrupted=no
    for ((try = 1; try <= 5; try++)); do
        topic=big-$victim-$try
        number=$((try * 12000))
        expect 0 topics create "$topic" --queues 1 --addr "$a"
        wire "$a" send-batch "$topic" 0 0 "$number" 600
        if copy_some "$topic" "$number"; then
            interrupted=yes
            break
        fi
        wait "${pids[copy]}" || fault "the copy of $topic failed: $(cat "$work/err")"
    done
    is "$victim $interrupted" "$victim yes"
    if [ "$victim" = asked ]; then # to stop
        kill -INT "${pids[copy]}"
        kill -CONT "${pids[copy]}"
        status=0
        wait "${pids[copy]}" || status=$?
        is "$status" 130
        has "$(cat "$work/err")" '^escrow: copy: interrupted; copy again: it goes on where it was broken off$'
    else
        end "$victim" KILL
    fi
    if [ "$victim" = new ]; then
        kill -CONT "${pids[copy]}"
        status=0
        wait "${pids[copy]}" || status=$?
        is "$status" 1
        has "$(cat "$work/err")" '^escrow: copy: .*ESCROW_(ECONN|ECLOSED|ETIMEOUT)'
        is "$(grep -vc ': note:' "$work/err")" 1
        start new --namesrv.port 0
        new=$broker
        export ESCROW_NAMESRV=$namesrv
    fi
    unset "pids[copy]"
    expect 0 copy topics messages --from "$from" --topic "$topic" --group none
    has "$out" "^messages +$topic +[0-9]+ copied"
    is_whole "$topic" "$number"
    expect 0 copy topics messages --from "$from" --topic "$topic" --group none
    has_not "$out" 'copied'
done

# ---- a message that does not fit into the batch that was begun goes into the next ----

expect 0 topics create Large --queues 1 --addr "$a"
for size in 300000 300001 300002 4194304 4194303 1; do
    head -c "$size" /dev/zero | tr '\0' x >"$work/large"
    expect 0 produce Large --file "$work/large" --quiet --addr "$a"
done
expect 0 copy topics messages --from "$from" --topic Large
has "$out" "^messages +Large +6 copied"
"$escrow" consume Large --json --addr "$a" | messages 0 offsets >"$work/source"
"$escrow" consume Large --json | messages 0 offsets >"$work/target"
same Large "$work/target" "$work/source"

# ---- another cluster whose names are the same ----

start old-a-twin --namesrv.port 0
wire "$broker" ask 17 topic=Large readQueueNums=1 writeQueueNums=1 perm=6 >/dev/null
wire "$broker" send-batch Large 0 0 30 50
broker=$new
expect 1 copy topics messages --from "$namesrv" --topic Large
has "$err" 'copy Large: offset 5 of queue 0 at old-a is not the message that was copied: another store'
is "$(count Large)" 6

# ---- the first broker gets more queues: the second one's have other numbers then ----

for addr in "$a" "$b"; do
    expect 0 topics create Grown --queues 1 --addr "$addr"
    wire "$addr" send-batch Grown 0 0 5 50
done
expect 0 copy topics messages --from "$from" --topic Grown
expect 0 topics create Grown --queues 2 --addr "$a"
expect 1 copy topics messages --from "$from" --topic Grown --overwrite
has "$err" 'copy Grown: the source has other queues.*delete the topic at the target, and copy with --again'
wire "$new" ask 215 topic=Grown >/dev/null
expect 0 copy topics messages --from "$from" --topic Grown --again
has "$out" '^messages +Grown +5 copied from old-a'
has "$out" '^messages +Grown +5 copied from old-b'
is "$("$escrow" consume Grown --json | messages 0 | cut -d' ' -f1 | sort | uniq -c | tr -s ' \n' ' ')" ' 5 0 5 2 '

# ---- what was copied and is gone at the target is said, and copied again when that is meant ----

new_names=$ESCROW_NAMESRV
start trial --namesrv.port 0
export ESCROW_NAMESRV=$namesrv
trial=$broker
expect 0 topics create Trial --queues 1 --addr "$a"
wire "$a" send-batch Trial 0 0 10 50
"$escrow" consume Trial --group tester --count 4 --namesrv "$from" --addr "$a" >/dev/null
expect 0 copy --from "$from" --topic Trial --group tester
has "$out" '^messages +Trial +6 copied'
has "$out" '^offsets +tester Trial +set in 1 queues'
wire "$trial" ask 215 topic=Trial >/dev/null
wire "$trial" ask 207 groupName=tester cleanOffset=true >/dev/null
wire "$a" send-batch Trial 0 10 3 50
expect 1 copy --from "$from" --topic Trial --group tester --dry-run
has "$err" 'copy Trial: 6 messages of queue 0 that were copied from old-a before are gone at the target'
expect 1 copy --from "$from" --topic Trial --group tester
has "$err" 'copy Trial: 6 messages of queue 0 that were copied from old-a before are gone at the target'
has "$err" 'copy tester Trial: 6 messages that the group has not consumed were copied from old-a and are gone'
has "$out" '^messages +Trial +3 copied'
wire "$trial" ask 215 topic=Trial >/dev/null
expect 0 copy --from "$from" --topic Trial --group tester --again
has "$out" '^messages +Trial +9 copied'
has "$out" '^offsets +tester Trial +set in 1 queues'
expect 0 copy --from "$from" --topic Trial --group tester
has_not "$out" 'copied'
"$escrow" consume Trial --json --addr "$a" | messages 0 | tail -n +5 >"$work/source"
"$escrow" consume Trial --json --group tester | messages 0 >"$work/target"
same Trial "$work/target" "$work/source"
expect 1 copy messages --from "$from" --topic Trial --group none --all-messages
has "$err" 'copy Trial: offsets 0 to 3 of queue 0 at old-a lie before what was copied first'
export ESCROW_NAMESRV=$new_names
broker=$new

# ---- a source that lies ----

# lie SCENARIO STATUS PATTERN COUNT [TOPIC [OPTION...]]: a copy from it ends so, says so in one line, and has copied so many messages.
lie() {
    local topic=${5:-told}
    listen fake python3 "$here/fake_source.py" "$1" "$topic"
    expect "$2" copy --from "$at" "${@:6}"
    has "$err" "$3"
    has_not "$out$err" $'\x1b|etc|\\.\\./g'
    is "$(count "$topic")" "$4"
    end fake KILL
    [ "$(count "$topic")" -eq 0 ] || wire "$broker" ask 215 topic="$topic" >/dev/null
}
lie junk 1 '^escrow: copy: .*ESCROW_EPROTO' 0
lie broker-name 1 'a broker without a name' 0
lie queues 1 '^escrow: copy: broker liar .*ESCROW_EPROTO' 0
lie offset 1 'copy told: .*ESCROW_EPROTO' 0
for scenario in other-topic other-queue backwards truncated; do
    lie $scenario 1 'copy told: .*ESCROW_EPROTO' 0
done
lie no-progress 1 'copy told: queue 0 at liar: it does not go on at offset 0 although it ends at 10' 0

# One message that cannot be copied, or one queue: the others go on.
lie inner-batch 1 'copy told: offset 0 of queue 0 at liar cannot be copied: it is a batch that only RocketMQ 5 reads \(ESCROW_ENOTSUP\); what lies behind' 0
lie one-of-two 1 'copy one: queue 0 at liar: it does not go on at offset 0' 10 one
for scenario in too-large refused; do
    lie $scenario 1 "copy $scenario: offset 4 of queue 0 at liar cannot be copied: .*\(ESCROW_ETOOBIG\); what lies behind it" 14 $scenario
    has "$out" "^messages +$scenario +14 copied from liar\$"
    is "$(grep -c 'offset 4' <<<"$err")" 1
    lie $scenario 1 "copy $scenario-2: offset 4 of queue 0 at liar cannot be copied: .*\(ESCROW_ETOOBIG\); it is passed over" 19 $scenario-2 --skip-refused
    has "$out" "^messages +$scenario-2 +19 copied from liar, 1 passed over\$"
done

# How far a group is cannot be asked: its offsets are not copied, other groups' are, and so is everything that it may need.
lie stats-junk 1 'copy g: how far it is at liar is not known: .*\(ESCROW_EPROTO\)' 10 junk
is "$(grep -c 'how far it is' <<<"$err")" 1
has "$out" '^offsets +h junk +set in 1 queues'
has_not "$out" '^offsets +g '
# More queues than one answer is read of: topic by topic.
lie stats-many 0 '' 10 many
has "$out" '^offsets +g many +set in 1 queues'
# Who is connected cannot be asked.
lie members 1 'copy g: whether it has members at the source is not known: .*\(ESCROW_EPERM\)' 10 guarded
has_not "$err" 'copy h:'
# --topic alone: only the groups that consume it, from where they are.
lie consumers 0 '' 6 wanted --topic wanted
has "$out" '^group +h '
has_not "$out" '^group +g '
lie consumers-secret 1 'copy secret: which groups consume it at liar is not known: .*\(ESCROW_EPERM\); --group says which' 10 secret --topic secret

lie gap 1 'copy told: offsets 0 to 3 of queue 0 at liar are not copied' 6
lie inner-gap 1 'copy inner: offsets 6 to 7 of queue 0 at liar are not copied' 8 inner
lie many-gaps 1 'copy gaps: offsets 1997 to 1997 of queue 0 at liar are not copied' 1000 gaps
lie first-gap 1 'copy first: offsets 0 to 2 of queue 0 at liar are not copied' 7 first

# ---- a source that serves TLS and signed requests only; the target does not, or has others' keys and authority ----

(
    umask 077
    printf '[user root]\naccess_key = old-key\nsecret_key = old-secret\nadmin = true\n' >"$work/old.users"
    printf '[user root]\naccess_key = new-key\nsecret_key = new-secret\nadmin = true\n[user reader]\naccess_key = reader-key\n%s\n' \
        'secret_key = reader-secret' >"$work/new.users"
    for secret in old new reader wrong; do
        printf '%s-secret\n' $secret >"$work/$secret.secret"
    done
)
authority
certificate server IP:127.0.0.1
certificate client DNS:client
start guarded --namesrv.port 0 --tls.mode enforcing --tls.cert.file "$work/server.pem" --tls.key.file "$work/server.key" \
    --tls.ca.file "$work/ca.pem" --tls.client.cert required --acl.file "$work/old.users"
guarded=$broker guarded_names=$namesrv
start keys --namesrv.port 0 --acl.file "$work/new.users"
keys=$broker keys_names=$namesrv

old_tls=(--tls on --tls-ca-file "$work/ca.pem" --tls-cert-file "$work/client.pem" --tls-key-file "$work/client.key")
old_key=(--access-key old-key --secret-key-file "$work/old.secret")
from_tls=(--from-tls on --from-tls-ca-file "$work/ca.pem" --from-tls-cert-file "$work/client.pem" --from-tls-key-file "$work/client.key")
from_key=(--from-access-key old-key --from-secret-key-file "$work/old.secret")
to=(--addr "$keys" --access-key new-key --secret-key-file "$work/new.secret")
expect 0 topics create sealed --queues 1 --namesrv "$guarded_names" "${old_tls[@]}" "${old_key[@]}"
expect 0 produce sealed one two three --quiet --addr "$guarded" "${old_tls[@]}" "${old_key[@]}"
expect 0 consume sealed --group readers --count 1 --addr "$guarded" --namesrv "$guarded_names" "${old_tls[@]}" "${old_key[@]}"

copy_guarded=(copy --from "$guarded_names" --timeout 5s --topic sealed)
expect 1 "${copy_guarded[@]}" "${to[@]}"
has "$err" 'TLS connections only'
expect 1 "${copy_guarded[@]}" "${to[@]}" "${from_key[@]}" --from-tls on
has "$err" 'certificate verify failed'
has "$err" '^escrow: copy: .*ESCROW_ETLS'
expect 1 "${copy_guarded[@]}" "${to[@]}" "${from_key[@]}" --from-tls on --from-tls-ca-file "$work/ca.pem"
has "$err" 'certificate required'
expect 1 "${copy_guarded[@]}" "${to[@]}" "${from_key[@]}" "${from_tls[@]}" --from-tls-server-name broker.example
has "$err" 'mismatch'
expect 1 "${copy_guarded[@]}" "${to[@]}" "${from_tls[@]}"
has "$err" 'not signed.*ESCROW_EAUTH'
expect 1 "${copy_guarded[@]}" "${to[@]}" "${from_tls[@]}" --from-access-key old-key --from-secret-key-file "$work/wrong.secret"
has "$err" 'signature.*ESCROW_EAUTH'
expect 2 "${copy_guarded[@]}" "${to[@]}" "${from_tls[@]}" --from-access-key old-key
has "$err" 'the source, --from-\.\.\.: --access-key and --secret-key-file belong together'
expect 2 "${copy_guarded[@]}" "${to[@]}" "${from_tls[@]}" --from-access-key old-key --from-secret-key-file "$work/nothing"
has "$err" "$work/nothing"
expect 2 "${copy_guarded[@]}" "${to[@]}" --from-tls perhaps
has "$err" 'the source, --from-.*off, on or insecure'
expect 2 "${copy_guarded[@]}" "${to[@]}" --from-tls-ca-file "$work/ca.pem"
has "$err" 'TLS is off'
# The source's are not the target's, nor the other way round.
expect 1 "${copy_guarded[@]}" --addr "$keys" "${from_tls[@]}" "${from_key[@]}"
has "$err" 'not signed.*ESCROW_EAUTH'
expect 1 "${copy_guarded[@]}" --addr "$keys" --access-key reader-key --secret-key-file "$work/reader.secret" "${from_tls[@]}" "${from_key[@]}"
has "$err" 'user reader has no admin'
ESCROW_ACCESS_KEY=old-key ESCROW_SECRET_KEY_FILE=$work/old.secret expect 1 "${copy_guarded[@]}" --addr "$keys" "${from_tls[@]}"
has "$err" 'not signed'

expect 0 "${copy_guarded[@]}" "${to[@]}" "${from_tls[@]}" "${from_key[@]}"
has "$out" '^messages +sealed +2 copied'
has "$out" '^offsets +readers sealed +set in 1 queues'
is "$("$escrow" consume sealed --group readers --namesrv "$keys_names" "${to[@]}")" $'two\nthree'
expect 0 "${copy_guarded[@]}" "${to[@]}" "${from_key[@]}" --from-tls insecure --from-tls-cert-file "$work/client.pem" \
    --from-tls-key-file "$work/client.key" --from-tls-server-name broker.example
has_not "$out" 'copied'
chmod 644 "$work/client.key"
expect 2 "${copy_guarded[@]}" "${to[@]}" "${from_tls[@]}" "${from_key[@]}"
has "$err" 'others can get at the private key'
for name in keys guarded; do
    end $name TERM
done

for name in trial new old-b old-a old-a-twin; do
    end "$name" TERM
done
report
