#!/usr/bin/env python3
"""The cases of the Python client `rocketmq`, which is Apache RocketMQ's C++ client with a wrapper.

usage: main.py list
       main.py run NAMESRV BROKER CASE...   prints `ok CASE` or `FAIL CASE: why` for each
       main.py case CASE                    one of them, in a process of its own: the client may take its process with it
       main.py member GROUP TOPIC           consumes, and says what, until it is killed
INTEROP_NAMESRV, INTEROP_BROKER, INTEROP_KEYS say where the servers are."""
import concurrent.futures
import ctypes
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../rocketmq"))
import ask  # noqa: E402

PATIENCE = 90  # seconds: the client looks for routes every 30, and shares queues anew every 20, if not sooner
CASE_SECONDS = 240
AT_A_TIME = 6
CREATE_TOPIC = 17
never = threading.Event()  # waits a little between two looks
CONSUME_SUCCESS, RECONSUME_LATER = 0, 1


def rocketmq():
    """The client; not there when cases are listed."""
    from rocketmq import client  # pylint: disable=import-outside-toplevel
    return client


class Inbox:
    """Bodies that came, in order."""

    def __init__(self):
        self.changed = threading.Condition()
        self.bodies = []

    def add(self, message):
        with self.changed:
            self.bodies.append(message.body.decode())
            self.changed.notify_all()

    def until(self, is_so, what):
        with self.changed:
            if not self.changed.wait_for(lambda: is_so(self.bodies), PATIENCE):
                raise AssertionError(f"{what}; got {self.bodies}")

    def expect(self, bodies):
        """These and no others, in any order."""
        self.until(lambda got: len(got) >= len(bodies), f"{len(bodies)} messages were expected")
        if sorted(self.bodies) != sorted(bodies):
            raise AssertionError(f"expected {sorted(bodies)}, got {sorted(self.bodies)}")


class Kit:
    """Names of a case's own, its servers, and clients that are shut down at its end."""

    def __init__(self, name, user=None, secret=None):
        self.name, self.user, self.secret = name, user, secret or f"{user}-secret"
        keys = os.environ.get("INTEROP_KEYS", "").split()
        self.namesrv, self.broker = keys if user is not None else (os.environ["INTEROP_NAMESRV"], os.environ["INTEROP_BROKER"])
        self.open = []
        self.count = 0

    def user_kit(self, user, secret=None):
        """The same at the servers that want access keys; user "": it signs nothing."""
        other = Kit(self.name, user, secret)
        self.open.append(other)
        return other

    def close(self):
        for one in reversed(self.open):
            one.close() if isinstance(one, Kit) else one.shutdown()

    def unique(self, what):
        self.count += 1
        return f"{self.name}-{self.user or 'all'}-{what}-{os.getpid()}-{self.count}"  # cases that fail run once more

    def create_topic(self, queues, name=None):
        topic = name or self.unique("topic")
        fields = {"topic": topic, "defaultTopic": "TBW102", "readQueueNums": str(queues), "writeQueueNums": str(queues), "perm": "6",
                  "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false"}
        with ask.connect(int(self.broker.rsplit(":", 1)[1])) as connection:
            if self.user is not None:
                fields = ask.signed(fields, b"", "owner-access", "owner-secret")
            answer = ask.ask(connection, CREATE_TOPIC, fields)
        check(answer["code"] == 0, f"create topic: {answer}")
        return topic

    def begin(self, client):
        client.set_namesrv_addr(self.namesrv)
        if self.user:
            client.set_session_credentials(f"{self.user}-access", self.secret, "ALIYUN")
        return client

    def producer(self):
        producer = self.begin(rocketmq().Producer(self.unique("producer"), timeout=15000))
        producer.start()
        self.open.append(producer)
        return producer

    def consume(self, group, topic, listener, expression="*", orderly=False, **options):
        consumer = self.begin(rocketmq().PushConsumer(group, orderly=orderly, **options))
        consumer.set_instance_name(self.unique("instance"))
        subscribe(consumer, topic, listener, expression)
        consumer.start()
        self.open.append(consumer)
        return consumer

    def collect(self, topic, group=None, **options):
        inbox = Inbox()
        self.consume(group or self.unique("group"), topic, inbox.add, **options)
        return inbox


def subscribe(consumer, topic, listener, expression):
    """As PushConsumer.subscribe, which tells the C++ client that a message is consumed when the listener throws."""
    from rocketmq import ffi  # pylint: disable=import-outside-toplevel

    def callback(_, handle):
        try:
            listener(rocketmq().RecvMessage(handle))
        except ValueError:
            return RECONSUME_LATER
        return CONSUME_SUCCESS
    rocketmq().ffi_check(ffi.dll.Subscribe(consumer._handle, topic.encode(), expression.encode()))
    consumer._register_callback(callback)


def check(is_true, what):
    if not is_true:
        raise AssertionError(what)


def numbered(count, first=0):
    return [f"m{i}" for i in range(first, first + count)]


def message(topic, body, tags=None, **properties):
    m = rocketmq().Message(topic)
    m.set_body(body)
    if tags:
        m.set_tags(tags)
    for name, value in properties.items():
        m.set_property(name, value)
    return m


def send(producer, topic, body, **options):
    """The first requests to a new topic may hear that there is no route yet."""
    def once():
        result = producer.send_sync(message(topic, body, **options))
        check(result.status == rocketmq().SendStatus.OK, f"status {result.status}")
        return result
    return until_no_error(once)


def until_no_error(call):
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except Exception:  # the client throws several kinds
            if time.monotonic() > deadline:
                raise
            never.wait(0.2)


def send_many(producer, topic, bodies):
    for body in bodies:
        send(producer, topic, body)


def refused(what, call):
    try:
        call()
    except Exception:  # as above
        return
    raise AssertionError(f"{what} was not refused")


# ---- cases ----

def case_normal(kit):
    """Body, tag, keys and properties arrive as they were sent."""
    topic = kit.create_topic(4)
    producer = kit.producer()
    m = message(topic, "text", tags="TagA", colour="blue")
    m.set_keys("key-1")
    result = until_no_error(lambda: producer.send_sync(m))
    check(len(result.msg_id) == 32, f"id {result.msg_id}")
    got = []
    done = threading.Event()

    def listener(received):
        got.append((received.body, received.tags, received.keys, received["colour"], received.topic, received.reconsume_times))
        done.set()
    kit.consume(kit.unique("group"), topic, listener)
    check(done.wait(PATIENCE), "the message did not come")
    check(got == [(b"text", b"TagA", b"key-1", b"blue", topic, 0)], f"got {got}")


def case_async(kit):
    topic = kit.create_topic(4)
    producer = kit.producer()
    send(producer, topic, "m0")
    results = Inbox()

    class Text:
        def __init__(self, text):
            self.body = text.encode()
    for body in numbered(5, 1):
        producer.send_async(message(topic, body), lambda r: results.add(Text(r.status.name)), lambda e: results.add(Text(str(e))))
    results.expect(["OK"] * 5)
    kit.collect(topic).expect(numbered(6))


def case_one_way(kit):
    topic = kit.create_topic(4)
    producer = kit.producer()
    send(producer, topic, "m0")
    for body in numbered(5, 1):
        producer.send_oneway(message(topic, body))
    kit.collect(topic).expect(numbered(6))


def case_batch(kit):
    topic = kit.create_topic(1)
    producer = kit.producer()
    send(producer, topic, "m0")
    result = producer.send_batch([message(topic, body) for body in numbered(5, 1)])
    check(result.status == rocketmq().SendStatus.OK, f"status {result.status}")
    inbox = kit.collect(topic, orderly=True)
    inbox.expect(numbered(6))
    check(inbox.bodies == numbered(6), f"order: {inbox.bodies}")


def case_chosen_queue(kit):
    topic = kit.create_topic(4)
    producer = kit.producer()
    queues = []
    done = threading.Event()

    def listener(received):
        queues.append(received.queue_id)
        if len(queues) == 4:
            done.set()
    for i in range(4):
        until_no_error(lambda: producer.send_orderly(message(topic, f"m{i}"), 2))
    kit.consume(kit.unique("group"), topic, listener)
    check(done.wait(PATIENCE), f"got {queues}")
    check(queues == [2] * 4, f"queues {queues}")


def case_compressed_zlib(kit):
    topic = kit.create_topic(1)
    body = "a line of text, and again. " * 4000
    send(kit.producer(), topic, body)
    kit.collect(topic).expect([body])


def case_delayed(kit):
    topic = kit.create_topic(1)
    producer = kit.producer()
    send(producer, topic, "now")
    m = message(topic, "later")
    m.set_delay_time_level(2)
    sent = time.monotonic()
    producer.send_sync(m)
    inbox = kit.collect(topic)
    inbox.expect(["now", "later"])
    check(time.monotonic() - sent > 4, "it came too early")


def case_ordered(kit):
    """By key, also when a message fails once."""
    topic = kit.create_topic(4)
    producer = kit.producer()
    for i in range(30):
        until_no_error(lambda: producer.send_orderly(message(topic, f"{i % 3} {i // 3}"), i % 3))
    inbox = Inbox()
    failed = []

    def listener(received):
        if received.body == b"1 4" and not failed:
            failed.append(1)
            raise ValueError("wanted")
        inbox.add(received)
    kit.consume(kit.unique("group"), topic, listener, orderly=True)
    inbox.expect([f"{i % 3} {i // 3}" for i in range(30)])
    for key in "012":
        mine = [body for body in inbox.bodies if body[0] == key]
        check(mine == [f"{key} {i}" for i in range(10)], f"order: {mine}")


def case_tag_filter(kit):
    topic = kit.create_topic(4)
    producer = kit.producer()
    for i in range(12):
        send(producer, topic, f"m{i}", tags="Red Green Blue".split()[i % 3])
    kit.collect(topic, expression="Red || Blue").expect([f"m{i}" for i in range(12) if i % 3 != 1])


def case_retry(kit):
    """A listener that throws gets the message again, later."""
    topic = kit.create_topic(1)
    send(kit.producer(), topic, "m0")
    attempts = []
    done = threading.Event()

    def listener(received):
        attempts.append((received.body, received.reconsume_times))
        if received.reconsume_times == 0:
            raise ValueError("wanted")
        done.set()
    kit.consume(kit.unique("group"), topic, listener)
    check(done.wait(PATIENCE), f"got {attempts}")
    check(attempts == [(b"m0", 0), (b"m0", 1)], f"got {attempts}")


def case_offsets_are_kept(kit):
    topic = kit.create_topic(4)
    group = kit.unique("group")
    producer = kit.producer()
    send_many(producer, topic, numbered(10))
    first = Inbox()
    consumer = kit.consume(group, topic, first.add)
    first.expect(numbered(10))
    consumer.shutdown()
    kit.open.remove(consumer)
    send(producer, topic, "later")
    kit.collect(topic, group=group).expect(["later"])


def case_broadcast(kit):
    """Every member gets everything. Members are processes: one of them keeps offsets in one file."""
    topic = kit.create_topic(4)
    group = kit.unique("group")
    inbox = kit.collect(topic, group=group, message_model=broadcasting())
    member = Member(kit, group, topic, "broadcast")
    producer = kit.producer()
    both_consume(producer, topic, inbox, member)
    send_many(producer, topic, numbered(10))
    for one in (inbox, member.inbox):
        one.until(lambda got: set(numbered(10)) <= set(got), "all messages were expected")
    member.kill()


def broadcasting():
    from rocketmq.ffi import MessageModel  # pylint: disable=import-outside-toplevel
    return MessageModel.BROADCASTING


class Member:
    """A process that consumes: this program again."""

    class Line:
        def __init__(self, text):
            self.body = text.encode()

    def __init__(self, kit, group, topic, *model):
        self.inbox = Inbox()
        self.process = subprocess.Popen([sys.executable, __file__, "member", group, topic, *model], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()
        kit.open.append(self)

    def read(self):
        for line in self.process.stdout:
            if line.startswith("got "):
                self.inbox.add(self.Line(line[4:].strip()))

    def kill(self):
        self.process.kill()
        self.process.wait()

    shutdown = kill


def member_main(group, topic, *model):
    def say(received):
        print("got", received.body.decode(), flush=True)
    kit = Kit(f"member-{os.getpid()}")
    kit.consume(group, topic, say, **({"message_model": broadcasting()} if model else {}))
    never.wait()


def both_consume(producer, topic, inbox, member):
    deadline = time.monotonic() + PATIENCE
    i = 0
    while not (inbox.bodies and member.inbox.bodies):
        check(time.monotonic() < deadline, f"{len(inbox.bodies)} and {len(member.inbox.bodies)} messages")
        send(producer, topic, f"w{i}")
        i += 1
        never.wait(0.1)


def case_clustering(kit):
    """Two members share the queues; one is killed, and all come to the other."""
    topic = kit.create_topic(4)
    group = kit.unique("group")
    producer = kit.producer()
    inbox = kit.collect(topic, group=group)
    member = Member(kit, group, topic)
    both_consume(producer, topic, inbox, member)
    send_many(producer, topic, numbered(20))
    deadline = time.monotonic() + PATIENCE
    while not set(numbered(20)) <= set(inbox.bodies + member.inbox.bodies):
        check(time.monotonic() < deadline, f"got {inbox.bodies} and {member.inbox.bodies}")
        never.wait(0.1)


def case_rebalance_after_kill(kit):
    topic = kit.create_topic(4)
    group = kit.unique("group")
    producer = kit.producer()
    inbox = kit.collect(topic, group=group)
    member = Member(kit, group, topic)
    both_consume(producer, topic, inbox, member)
    member.kill()
    send_many(producer, topic, numbered(20))
    inbox.until(lambda got: set(numbered(20)) <= set(got), "all messages were expected")


def case_pull(kit):
    topic = kit.create_topic(2)
    send_many(kit.producer(), topic, numbered(10))
    consumer = kit.begin(rocketmq().PullConsumer(kit.unique("group")))
    consumer.start()
    kit.open.append(consumer)
    bodies = until_no_error(lambda: [m.body.decode() for m in consumer.pull(topic)])
    check(sorted(bodies) == numbered(10), f"got {bodies}")


def case_access_keys(kit):
    """All that a service does, signed, with the access channel of Alibaba Cloud's clients: sends, consuming, offsets, order."""
    service = kit.user_kit("service")
    topic, ordered = service.create_topic(4), service.create_topic(1)
    producer = service.producer()
    send_many(producer, topic, numbered(10))
    producer.send_oneway(message(topic, "m10"))
    group = service.unique("group")
    inbox = Inbox()
    first = service.consume(group, topic, inbox.add)
    inbox.expect(numbered(11))
    first.shutdown()
    service.open.remove(first)
    send(producer, topic, "later")
    service.collect(topic, group=group).expect(["later"])
    send_many(producer, ordered, numbered(5))
    in_order = service.collect(ordered, orderly=True)
    in_order.expect(numbered(5))
    check(in_order.bodies == numbered(5), f"order: {in_order.bodies}")


def case_access_keys_refused(kit):
    service = kit.user_kit("service")
    topic = service.create_topic(1)
    send(service.producer(), topic, "m0")
    for who, other in (("a wrong secret", kit.user_kit("service", "another")), ("an unknown user", kit.user_kit("unknown")),
                       ("nobody", kit.user_kit(""))):
        producer = other.producer()
        refused(f"a message of {who}", lambda: producer.send_sync(message(topic, "refused")))
    service.collect(topic).expect(["m0"])


def case_access_keys_permissions(kit):
    owner = kit.user_kit("owner")
    topic = owner.create_topic(1)
    hidden = owner.create_topic(1, f"access-keys-permissions-hidden-{owner.unique('topic')}")
    writer, reader = kit.user_kit("writer").producer(), kit.user_kit("reader")
    send(writer, topic, "m0")
    refused("a message to a topic that is denied", lambda: writer.send_sync(message(hidden, "refused")))
    reading = reader.producer()
    refused("a message of one who may read", lambda: reading.send_sync(message(topic, "refused")))
    reader.collect(topic).expect(["m0"])


def case_access_keys_retry(kit):
    case_retry(kit.user_kit("service"))


cases = {
    "normal": case_normal,
    "async": case_async,
    "one-way": case_one_way,
    "batch": case_batch,
    "chosen-queue": case_chosen_queue,
    "compressed-zlib": case_compressed_zlib,
    "delayed": case_delayed,
    "ordered": case_ordered,
    "tag-filter": case_tag_filter,
    "retry": case_retry,
    "offsets-are-kept": case_offsets_are_kept,
    "broadcast": case_broadcast,
    "clustering": case_clustering,
    "rebalance-after-kill": case_rebalance_after_kill,
    "pull": case_pull,
    "access-keys": case_access_keys,
    "access-keys-retry": case_access_keys_retry,
    "access-keys-refused": case_access_keys_refused,
    "access-keys-permissions": case_access_keys_permissions,
}


def one_case(name):
    kit = Kit(name)
    status = 0
    try:
        cases[name](kit)
        print(f"ok {name}")
    except Exception as e:  # whatever it is, it is why
        print(f"FAIL {name}: {type(e).__name__} {' '.join(str(e).split())}")
        status = 1
    sys.stdout.flush()
    threading.Timer(20, lambda: os._exit(status)).start()  # the client's end may hang; what it says no longer matters
    kit.close()
    os._exit(status)


def run_case(name):
    try:
        done = subprocess.run([sys.executable, __file__, "case", name], capture_output=True, text=True, timeout=CASE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"FAIL {name}: not finished after {CASE_SECONDS} seconds"
    lines = [line for line in done.stdout.splitlines() if line.startswith((f"ok {name}", f"FAIL {name}", f"note {name}"))]
    return "\n".join(lines or [f"FAIL {name}: status {done.returncode} {' '.join(done.stderr.split())[-300:]}"])


def main(what, *args):
    if what == "list":
        print("\n".join(cases))
    elif what == "case":
        one_case(*args)
    elif what == "member":
        member_main(*args)
    else:
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            for text in pool.map(run_case, args[2:]):
                print(text, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
