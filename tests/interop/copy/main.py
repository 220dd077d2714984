#!/usr/bin/env python3
"""escrow copy from Apache RocketMQ's own broker to an escrowd of its own. usage: main.py CASE...

A case is a function case_NAME(place); it prints "ok NAME" or "FAIL NAME: why". Cases run one after the other, each with topics and groups
of its own, named after it."""
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "integration", "copy"))
import wire  # noqa: E402

WAIT_SECONDS = 60
LEVEL_1_HOUR = 17


def wait_a_little(seconds):
    select.select([], [], [], seconds)


def until(what, fn):
    """Try until it is true, or say what never was."""
    end = time.monotonic() + WAIT_SECONDS
    while not fn():
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        wait_a_little(0.05)


class Place:
    """Both sides, and what is asked of them."""

    def __init__(self):
        build = os.environ["INTEROP_BUILD"]
        self.escrow = os.path.join(build, "src", "tools", "escrow")
        self.escrowd = os.path.join(build, "src", "broker", "escrowd")
        self.work = os.environ["INTEROP_WORK"]
        self.source = os.environ["INTEROP_NAMESRV"]
        self.old = wire.Wire(os.environ["INTEROP_BROKER"])
        self.server = None
        self.start()

    def start(self):
        log = os.path.join(self.work, "target.log")
        with open(log, "wb") as out:
            self.server = subprocess.Popen(
                ["setarch", "-R", self.escrowd, "--data.dir", tempfile.mkdtemp(prefix="target.", dir=self.work), "--broker.port", "0", "--broker.vip.port", "0",
                 "--namesrv.port", "0"], stdout=out, stderr=subprocess.STDOUT)
        until("the target is ready", lambda: " ready " in open(log, encoding="utf-8").read() or self.server.poll() is not None)
        text = open(log, encoding="utf-8").read()
        self.target = re.search(r"name server listens on (\S+)", text).group(1)
        self.new = wire.Wire(re.search(r"broker listens on (\S+)", text).group(1))

    def stop(self):
        self.server.terminate()
        status = self.server.wait(60)
        assert status == 0, f"the target ended with {status}: {open(os.path.join(self.work, 'target.log'), encoding='utf-8').read()[-2000:]}"

    def run(self, *arguments, status=0, source=False):
        done = subprocess.run([self.escrow, *arguments, "--namesrv", self.source if source else self.target], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=80, check=False)
        assert done.returncode == status, f"escrow {arguments}: {done.returncode}: {done.stdout[-300:]} {done.stderr[-300:]}"
        return done

    def copy(self, *arguments, status=0):
        return self.run("copy", *arguments, "--from", self.source, status=status)

    def topic(self, name, queues, **more):
        fields = {"topic": name, "defaultTopic": "TBW102", "readQueueNums": str(queues), "writeQueueNums": str(queues), "perm": "6",
                  "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false", **more}
        answer, _ = self.old.ask(17, fields)
        assert answer["code"] == 0, answer
        until(f"the source's name server has {name}", lambda: self.is_routed(name))

    def is_routed(self, name):
        return wire.Wire(self.source).ask(105, {"topic": name})[0]["code"] == 0

    def messages(self, topic, source=False, *arguments):
        lines = self.run("consume", topic, "--json", *arguments, source=source).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def config(self, code, table, name):
        """Of a topic (21) or group (201): what both sides have alike. Brokers of 4.9 know no request for one."""
        both = []
        for side in (self.old, self.new):
            answer, body = side.ask(code, {})
            assert answer["code"] == 0, answer
            both.append({k: v for k, v in json.loads(body)[table][name].items() if k not in ("attributes", "groupRetryPolicy")})
        return both[0], {k: both[1].get(k) for k in both[0]}


def said(done, pattern):
    assert re.search(pattern, done.stdout + done.stderr, re.M), f"/{pattern}/ not in: {done.stdout} {done.stderr}"


def kept(message):
    """What a copy keeps."""
    return [message[k] for k in ("topic", "queue", "bornMs", "sysFlag", "flag", "reconsumeTimes", "properties", "size")] + \
        [message.get("body"), message.get("bodyBase64")]


def case_topics_and_groups(place):
    """Settings that are not the usual ones; the topics and groups that every broker has stay where they are."""
    place.topic("topics-a", 3, writeQueueNums="2", order="true")
    place.topic("topics-b", 5, perm="4", attributes="+message.type=FIFO")
    group = {"groupName": "topics-g", "consumeEnable": True, "consumeFromMinEnable": False, "consumeBroadcastEnable": False,
             "consumeMessageOrderly": True, "retryQueueNums": 2, "retryMaxTimes": 7, "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1,
             "notifyConsumerIdsChangedEnable": False, "groupSysFlag": 0, "consumeTimeoutMinute": 20}
    assert place.old.ask(200, {}, json.dumps(group).encode())[0]["code"] == 0
    done = place.copy("topics", "groups")
    assert not re.search(r"TBW102|SELF_TEST|SCHEDULE|DefaultCluster|escrow-a|TOOLS_CONSUMER|CID_|[Rr][Mm][Qq]_[Ss][Yy][Ss]", done.stdout), done.stdout
    for name in ("topics-a", "topics-b"):
        old, new = place.config(21, "topicConfigTable", name)
        assert old == new, (old, new)
    old, new = place.config(201, "subscriptionGroupTable", "topics-g")
    assert old == new, (old, new)
    done = place.copy("topics", "groups")
    assert not re.search("created|changed|left", done.stdout), done.stdout


def case_messages_and_offsets(place):
    """Two groups at different places go on where they were; every message is what it was, in its queue, in its order; a second time
    nothing happens, and later only what is new."""
    place.topic("messages", 3)
    for queue in range(3):
        wire.send_batch(place.old, "messages", queue, 0, 200, 300)
    place.run("produce", "messages", "one", "--key", "k1 k2", "--tag", "t", "--property", "a=b", source=True)
    place.run("produce", "messages", "x" * 6000, source=True)
    place.run("consume", "messages", "--group", "messages-g", "--count", "250", source=True)
    place.run("consume", "messages", "--group", "messages-h", "--count", "90", source=True)
    pattern = ("--topic", "messages", "--group", "messages-*")
    said(place.copy(*pattern), r"^messages +messages +\d+ copied")
    old, new = place.messages("messages", True), place.messages("messages")
    for queue in range(3):
        had, has = ([kept(m) for m in side if m["queue"] == queue] for side in (old, new))
        assert has and had[-len(has):] == has, (queue, len(had), len(has))
    done = place.copy(*pattern)
    assert not re.search("created|changed|copied|set in", done.stdout), done.stdout
    for group in ("messages-g", "messages-h"):
        would, does = (sorted(json.dumps(kept(m), sort_keys=True) for m in place.messages("messages", source, "--group", group)) for source in (True, False))
        assert would == does and would, (group, len(would), len(does))
    wire.send_batch(place.old, "messages", 1, 200, 10, 300)
    said(place.copy(*pattern), r"^messages +messages +10 copied")
    assert len(place.messages("messages", False, "--group", "messages-g")) == 10


def case_retries_and_dead_letters(place):
    """What a consumer sent back, as often as it may and once more, is copied with its count."""
    place.topic("retries", 1)
    assert place.old.ask(200, {}, b'{"groupName":"retries-g","consumeEnable":true,"retryQueueNums":1,"retryMaxTimes":1}')[0]["code"] == 0
    place.run("produce", "retries", "bad", source=True)
    place.run("consume", "retries", "--group", "retries-g", source=True)
    place.run("produce", "retries", "worse", source=True)
    for times, topic in enumerate(("%RETRY%retries-g", "%DLQ%retries-g")):
        for message in place.messages("retries" if times == 0 else "%RETRY%retries-g", True):
            answer, _ = place.old.ask(36, {"offset": str(message["physicalOffset"]), "group": "retries-g", "delayLevel": "1",
                                           "originMsgId": message["id"], "originTopic": "retries", "maxReconsumeTimes": "1"})
            assert answer["code"] == 0, answer
        until(f"two messages in {topic}", lambda name=topic: place.is_routed(name) and len(place.messages(name, True)) == 2)
    said(place.copy("--topic", "retries", "--group", "retries-g"), r"^messages +%RETRY%retries-g +2 copied")
    for topic, times in (("%RETRY%retries-g", 1), ("%DLQ%retries-g", 2)):
        old, new = place.messages(topic, True), place.messages(topic)
        assert [kept(m) for m in old] == [kept(m) for m in new] and len(new) == 2, (old, new)
        assert all(m["reconsumeTimes"] >= 1 and m["properties"]["RETRY_TOPIC"] == "retries" for m in new), (times, new)
    assert [m["body"] for m in place.messages("retries", False, "--group", "retries-g")][:1] == ["worse"]


def case_groups_of_a_topic(place):
    """With --topic alone come the groups that have an offset there or subscribe, and their retry topics; who has members is said, and of a
    group without any nothing."""
    for topic in ("groups-a", "groups-b"):
        place.topic(topic, 1)
        place.run("produce", topic, "one", "two", source=True)
        place.run("consume", topic, "--group", topic + "-reads", "--count", "1", source=True)
    member = subprocess.Popen([place.escrow, "consume", "groups-a", "--group", "groups-a-listens", "--follow", "--namesrv", place.source],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until("the member is known", lambda: place.old.ask(203, {"consumerGroup": "groups-a-listens"})[0]["code"] == 0)
        done = place.copy("--topic", "groups-a")
    finally:
        member.kill()
        member.wait()
    said(done, r"^group +groups-a-reads +created")
    said(done, r"^group +groups-a-listens +created")
    said(done, r"^topic +%RETRY%groups-a-reads +created")
    said(done, r"note: groups-a-listens: has members at the source")
    assert not re.search("groups-b|groups-a-reads: has|is not known", done.stdout + done.stderr), done
    assert [m["body"] for m in place.messages("groups-a", False, "--group", "groups-a-reads")] == ["two"]
    # What is asked of a group with very many queues: who consumes a topic, and of that topic alone where the group is.
    answer, body = place.old.ask(300, {"topic": "groups-a"})
    assert answer["code"] == 0 and "groups-a-reads" in json.loads(body)["groupList"], (answer, body)
    answer, body = place.old.ask(208, {"consumerGroup": "groups-a-reads", "topic": "groups-a"})
    assert answer["code"] == 0 and b"groups-a" in body, (answer, body)


def case_others_at_the_target(place):
    """Messages of others lie before those that are copied: groups go on with these, and with --skip-others behind them."""
    place.topic("others", 1)
    wire.send_batch(place.old, "others", 0, 0, 30, 50)
    place.run("consume", "others", "--group", "others-g", "--count", "10", source=True)
    place.run("consume", "others", "--group", "others-h", "--count", "25", source=True)
    only = ("--topic", "others")
    place.copy("topics", "groups", *only)
    place.run("produce", "others", "of another")
    said(place.copy(*only, status=1), "others-h others: in 1 queues others.* up to 15 messages again")
    place.copy("offsets", *only, "--skip-others")
    numbers = [m["properties"]["UNIQ_KEY"] for m in place.messages("others", False, "--group", "others-h")]
    assert numbers == [f"others-0-{i}" for i in range(25, 30)], numbers


def case_what_waits(place):
    """Delayed messages and half messages are counted, not copied; what has become due or was committed comes with the next copy."""
    place.topic("waits", 1)
    place.run("produce", "waits", "in an hour", "--delay-level", str(LEVEL_1_HOUR), source=True)
    place.run("produce", "waits", "soon", "--delay-level", "2", source=True)
    half = place.run("produce", "waits", "half", "--half", "--group", "waits-p", "--json", source=True).stdout
    only = ("--topic", "waits", "--group", "waits-g")
    done = place.copy(*only)
    said(done, r"note: escrow-a: \d+ messages wait there")
    said(done, r"note: escrow-a: up to \d+ half messages")
    until("the delayed message is due", lambda: len(place.messages("waits", True)) == 1)
    said(place.copy(*only), r"^messages +waits +1 copied")
    assert [m["body"] for m in place.messages("waits")] == ["soon"], half


def case_interrupted(place):
    """A copy that is killed in the middle goes on: nothing is lost, nothing is there twice."""
    for number in range(1, 6):
        topic, total = f"interrupted-{number}", 20000 * number
        place.topic(topic, 1)
        wire.send_batch(place.old, topic, 0, 0, total, 500)
        if kill_in_the_middle(place, topic, total):
            break
    else:
        raise AssertionError("the copy was always too quick")
    said(place.copy("topics", "messages", "--topic", topic, "--group", "none"), rf"^messages +{topic} +\d+ copied")
    has = place.messages(topic)
    assert len(has) == total, (len(has), total)
    assert [m["properties"]["UNIQ_KEY"] for m in has] == [f"{topic}-0-{i}" for i in range(total)]


def kill_in_the_middle(place, topic, total):
    """Let it run in small steps until some messages are there, but not all, and kill it."""
    there = 0
    copy = subprocess.Popen([place.escrow, "copy", "topics", "messages", "--topic", topic, "--group", "none", "--from", place.source, "--namesrv",
                             place.target], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while there == 0 and copy.poll() is None:
        copy.send_signal(signal.SIGSTOP)
        answer, _ = place.new.ask(30, {"topic": topic, "queueId": "0"})
        there = int(answer["extFields"]["offset"]) if answer["code"] == 0 else 0
        if there == 0:
            copy.send_signal(signal.SIGCONT)
            wait_a_little(0.005)
    copy.kill()
    copy.wait()
    return 0 < there < total


def main(names):
    place = Place()
    for name in names:
        try:
            globals()["case_" + name.removesuffix("-4.9").replace("-", "_")](place)
            print(f"ok {name}", flush=True)
        except Exception as error:  # whatever it is, the next case runs
            traceback.print_exc()
            print(f"FAIL {name}: {str(error)[:300]!r}", flush=True)
    place.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
