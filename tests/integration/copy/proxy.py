"""Between a client and one broker: passes everything on, but for what it is told. Prints its address, and serves until it is ended.

usage: proxy.py BROKER deny CODE               requests of this code are answered with NO_PERMISSION
       proxy.py BROKER cut COUNT before|after  at so many requests, before that one is passed on, or after the broker has answered it, all
                                               connections are closed, for good, and so is the port; exit status 0"""
import asyncio
import json
import os
import struct
import sys

broker_host, broker_port = sys.argv[1].rsplit(":", 1)
what, number = sys.argv[2], int(sys.argv[3])
is_after = sys.argv[4:] == ["after"]
NO_PERMISSION = 16
requests = 0


async def read_frame(reader):
    size = await reader.readexactly(4)
    return size + await reader.readexactly(struct.unpack(">I", size)[0])


def header_of(frame):
    """(code, opaque); the header is JSON, or MessagePack that begins with [code, flag, opaque, ..."""
    kind, size = frame[4], int.from_bytes(frame[5:8], "big")
    header = frame[8:8 + size]
    if kind == 0:
        fields = json.loads(header)
        return fields["code"], fields["opaque"]
    assert kind == 2, kind
    at, numbers = 1, []
    while len(numbers) < 3:
        tag = header[at]
        size = {0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd0: 1, 0xd1: 2, 0xd2: 4, 0xd3: 8}.get(tag, 0)
        numbers.append(int.from_bytes(header[at + 1:at + 1 + size], "big", signed=tag >= 0xd0) if size else tag)
        at += 1 + size
    return numbers[0], numbers[2]


def refusal(opaque):
    header = json.dumps({"code": NO_PERMISSION, "flag": 1, "opaque": opaque, "language": "JAVA", "version": 409, "remark": "denied"}).encode()
    return struct.pack(">II", 4 + len(header), len(header)) + header


async def forward(client, broker, client_out):
    global requests
    while True:
        frame = await read_frame(client)
        requests += 1
        if what == "deny" and header_of(frame)[0] == number:
            client_out.write(refusal(header_of(frame)[1]))
            continue
        if what == "cut" and requests == number and not is_after:
            os._exit(0)
        broker.write(frame)


async def back(broker, client):
    while True:
        frame = await read_frame(broker)
        if what == "cut" and requests >= number: # one request is under way at a time
            os._exit(0)
        client.write(frame)


async def serve(client_in, client_out):
    broker_in, broker_out = await asyncio.open_connection(broker_host, int(broker_port))
    both = [asyncio.ensure_future(forward(client_in, broker_out, client_out)), asyncio.ensure_future(back(broker_in, client_out))]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    for task in both:
        task.cancel()
    client_out.close()
    broker_out.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 25)
    print("127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
