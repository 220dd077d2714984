"""RocketMQ's remoting protocol with JSON headers, as far as the tests of escrow copy need it.

usage: wire.py ADDR send-batch TOPIC QUEUE FIRST COUNT SIZE   messages "TOPIC/QUEUE/number ..." of SIZE bytes, zlib-compressed when odd
       wire.py ADDR ask CODE NAME=VALUE... [BODY]            one request; prints the answer's code and body
"""
import json
import socket
import struct
import sys
import zlib


class Wire:
    def __init__(self, addr):
        host, port = addr.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), 60)
        self.opaque = 0

    def ask(self, code, fields, body=b""):
        self.opaque += 1
        header = json.dumps({"code": code, "language": "JAVA", "version": 409, "opaque": self.opaque, "flag": 0,
                             "extFields": fields, "serializeTypeCurrentRPC": "JSON"}).encode()
        self.socket.sendall(struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body)
        size, header_size = struct.unpack(">II", self.read(8))
        rest = self.read(size - 4)
        header_size &= 0xFFFFFF
        return json.loads(rest[:header_size]), rest[header_size:]

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError("connection closed")
            data += part
        return data


def body_of(topic, queue, number, size):
    return f"{topic}/{queue}/{number} ".ljust(size, "x").encode()


def send_batch(wire, topic, queue, first, count, size):
    for begin in range(first, first + count, 1000):
        out = b""
        for number in range(begin, min(begin + 1000, first + count)):
            body = body_of(topic, queue, number, size)
            properties = f"UNIQ_KEY\1{topic}-{queue}-{number}\2KEYS\1k{number}\2TAGS\1t{number % 3}\2mine\1{number}\2".encode()
            item = struct.pack(">IIII", 0, 0, number, len(body)) + body + struct.pack(">H", len(properties)) + properties
            out += struct.pack(">I", len(item) + 4) + item
        answer, _ = wire.ask(320, {"a": "pg", "b": topic, "c": "TBW102", "d": "4", "e": str(queue), "f": "0", "g": "1700000000000",
                                   "h": "0", "i": "", "j": "0", "k": "false", "m": "true"}, out)
        assert answer["code"] == 0, answer


def main(addr, what, *rest):
    wire = Wire(addr)
    if what == "send-batch":
        send_batch(wire, rest[0], *map(int, rest[1:]))
        return
    fields = dict(one.split("=", 1) for one in rest[1:] if "=" in one and not one.startswith("{"))
    body = next((one for one in rest[1:] if one.startswith("{")), "")
    answer, text = wire.ask(int(rest[0]), fields, body.encode())
    print(answer["code"], text.decode("utf-8", "replace"))


if __name__ == "__main__":
    main(*sys.argv[1:])
