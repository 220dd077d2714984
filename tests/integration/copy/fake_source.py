"""A name server and broker in one that lies: the source of a copy that must not be fooled. Prints its address, and serves until it is
ended.

usage: fake_source.py SCENARIO [TOPIC]"""
import json
import socketserver
import struct
import sys
import zlib

TOPIC = sys.argv[2] if len(sys.argv) > 2 else "told"
TWO_GROUPS = ("stats-junk", "stats-many", "members", "consumers")
QUEUE_END = 2000 if sys.argv[1] == "many-gaps" else 10


def record(topic, queue, offset, body=b"body", sys_flag=0, properties=None):
    host = bytes([127, 0, 0, 1]) + struct.pack(">I", 1)
    properties = properties or f"UNIQ_KEY\1u{offset}\2".encode()
    rest = struct.pack(">IIIIQQIQ", 0xDAA320A7, zlib.crc32(body) & 0x7FFFFFFF, queue, 0, offset, offset * 100, sys_flag, 1700000000000)
    rest += host + struct.pack(">Q", 1700000000000) + host + struct.pack(">IQI", 0, 0, len(body)) + body
    rest += bytes([len(topic)]) + topic.encode() + struct.pack(">H", len(properties)) + properties
    return struct.pack(">I", len(rest) + 4) + rest


def records(first, last):
    return b"".join(record(TOPIC, 0, i) for i in range(first, last))


def with_one(offset, queue, one):
    """The messages of queue 0 or 1; the fourth of queue 0 is another."""
    return b"".join(one if queue == 0 and i == 4 else record(TOPIC, queue, i) for i in range(offset, QUEUE_END))


def pulled(scenario, queue, offset):
    """(code, nextBeginOffset, body) for a pull from an offset."""
    if scenario == "too-large":
        return 0, QUEUE_END, with_one(offset, queue, record(TOPIC, 0, 4, b"x" * (5 << 20)))
    if scenario == "refused":  # the target puts an id into the properties, for which there is no room
        return 0, QUEUE_END, with_one(offset, queue, record(TOPIC, 0, 4, properties=b"a\1" + b"x" * 32750 + b"\2"))
    if scenario == "one-of-two" and queue == 1:
        return 0, QUEUE_END, b"".join(record(TOPIC, 1, i) for i in range(offset, QUEUE_END))
    if scenario == "other-topic":
        return 0, offset + 1, record("other", 0, offset)
    if scenario == "other-queue":
        return 0, offset + 1, record(TOPIC, 1, offset)
    if scenario == "backwards":
        return 0, QUEUE_END, records(5, 8) + records(2, 3)
    if scenario == "truncated":
        return 0, QUEUE_END, records(offset, QUEUE_END)[:-3]
    if scenario == "inner-batch":
        return 0, QUEUE_END, record(TOPIC, 0, offset, sys_flag=0xC0)
    if scenario in ("no-progress", "one-of-two"):
        return 19, offset, b""
    if scenario == "gap" and offset < 4:
        return 21, 4, b""
    if scenario == "inner-gap":
        return 0, QUEUE_END, records(offset, 6) + records(8, QUEUE_END)
    if scenario == "many-gaps":
        return 0, QUEUE_END, b"".join(record(TOPIC, 0, i) for i in range(offset + offset % 2, QUEUE_END, 2))
    if scenario == "first-gap" and offset < 3:
        return 0, QUEUE_END, records(3, QUEUE_END)
    return 0, QUEUE_END, records(offset, QUEUE_END)


def answer(scenario, addr, code, fields):
    """(code, fields, body)"""
    name = "bad\x1b[2J" if scenario == "broker-name" else "liar"
    if code == 106:
        if scenario == "junk":
            return 0, {}, b'{"brokerAddrTable":[}'
        return 0, {}, json.dumps({"brokerAddrTable": {name: {"brokerName": name, "cluster": "c", "brokerAddrs": {"0": addr}}},
                                  "clusterAddrTable": {"c": [name]}}).encode()
    if code == 21:
        queues = {"queues": 1025, "one-of-two": 2, "too-large": 2, "refused": 2}.get(scenario, 1)
        topics = [TOPIC, "../../etc", "a b", "TBW102"]
        return 0, {}, json.dumps({"topicConfigTable": {t: {"topicName": t, "readQueueNums": queues, "writeQueueNums": queues, "perm": 6}
                                                       for t in topics}}).encode()
    if code == 201:
        return 0, {}, json.dumps({"subscriptionGroupTable": {g: {"groupName": g} for g in (("g", "h", "../g") if scenario in TWO_GROUPS else ("g", "../g"))}}).encode()
    if code == 203:
        return (16, {}, b"") if scenario == "members" and fields["consumerGroup"] == "g" else (206, {}, b"")
    if code == 300:
        groups = ["g", "h"] if scenario == "stats-many" else ["h", "h", "../g"]
        return (16, {}, b"") if scenario == "consumers-secret" else (0, {}, json.dumps({"groupList": groups}).encode())
    if code == 208 and scenario in TWO_GROUPS and fields["consumerGroup"] == "h":
        body = '{"offsetTable":{{"brokerName":"liar","queueId":0,"topic":"' + TOPIC + '"}:{"brokerOffset":10,"consumerOffset":4}}}'
        return 0, {}, body.encode()
    if code == 208 and scenario == "stats-junk":
        return 0, {}, b'{"offsetTable":{'
    if code == 208 and scenario == "stats-many" and "topic" not in fields:
        row = '{"brokerName":"liar","queueId":%d,"topic":"many-%d"}:{"brokerOffset":1,"consumerOffset":1}'
        return 0, {}, ('{"offsetTable":{' + ",".join(row % (i % 1000, i // 1000) for i in range(12000)) + "}}").encode()
    if code == 208:
        body = '{"offsetTable":{{"brokerName":"liar","queueId":0,"topic":"' + TOPIC + '"}:{"brokerOffset":10,"consumerOffset":0},' \
               '{"brokerName":"liar","queueId":2000000000,"topic":"' + TOPIC + '"}:{"brokerOffset":1,"consumerOffset":-7}}}'
        return 0, {}, body.encode()
    if code == 28:
        return 0, {}, b'{"table":{"scheduleMessageOffset_1":"5,x","scheduleMessageOffset_99":"1,2","timerCongestNum":"-4"}}'
    if code in (30, 31):
        offset = (QUEUE_END if code == 30 else 0) if fields["topic"] == TOPIC else 0
        return 0, {"offset": str(-1 if scenario == "offset" else offset)}, b""
    if code == 11:
        result, following, body = pulled(scenario, int(fields["queueId"]), int(fields["queueOffset"]))
        return result, {"nextBeginOffset": str(following), "minOffset": "0", "maxOffset": str(QUEUE_END), "suggestWhichBrokerId": "0"}, body
    return 3, {}, b""


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            head = self.rfile.read(8)
            if len(head) < 8:
                return
            size, header_size = struct.unpack(">II", head)
            rest = self.rfile.read(size - 4)
            request = json.loads(rest[:header_size & 0xFFFFFF])
            code, fields, body = answer(sys.argv[1], self.server.addr, request["code"], request.get("extFields") or {})
            header = json.dumps({"code": code, "flag": 1, "opaque": request["opaque"], "language": "JAVA", "version": 1, "extFields": fields})
            self.wfile.write(struct.pack(">II", 4 + len(header) + len(body), len(header)) + header.encode() + body)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


with Server(("127.0.0.1", 0), Connection) as server:
    server.addr = f"127.0.0.1:{server.server_address[1]}"
    print(server.addr, flush=True)
    server.serve_forever()
