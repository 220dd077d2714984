#!/usr/bin/env python3
"""Requests to Apache RocketMQ's servers while they start.

usage: ask.py PORT route [CERTIFICATES]        ends well when the name server there knows the broker
       ask.py PORT users USERS ACCESS SECRET   makes the users of USERS (a file as escrowd reads it) at the broker there, for its administrator
CERTIFICATES: a folder with ca.pem, client.pem and client.key: ask inside TLS."""
import base64
import configparser
import hashlib
import hmac
import json
import os
import socket
import ssl
import struct
import sys

GET_ROUTE, CREATE_USER, CREATE_ACL = 105, 3001, 3006
ACTIONS = {"PUB": ("Pub", "Get"), "SUB": ("Sub", "Get", "Update")}  # offsets are looked at and set by who consumes


def connect(port, certificates=None):
    plain = socket.create_connection(("127.0.0.1", port), 15)
    if certificates is None:
        return plain
    context = ssl.create_default_context(cafile=os.path.join(certificates, "ca.pem"))
    context.load_cert_chain(os.path.join(certificates, "client.pem"), os.path.join(certificates, "client.key"))
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def receive(connection, count):
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("the connection was closed")
        data += part
    return data


def ask(connection, code, fields, body=b""):
    """The answer's header."""
    header = json.dumps({"code": code, "opaque": 1, "flag": 0, "version": 477, "language": "JAVA", "extFields": fields}).encode()
    connection.sendall(struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body)
    length, = struct.unpack(">I", receive(connection, 4))
    answer = receive(connection, length)
    size = struct.unpack(">I", answer[:4])[0] & 0xFFFFFF
    return json.loads(answer[4:4 + size])


def signed(fields, body, access, secret):
    fields = {**fields, "AccessKey": access}
    text = "".join(fields[name] for name in sorted(fields)).encode() + body
    return {**fields, "Signature": base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha1).digest()).decode()}


def entry(resource, rights):
    """What a right of users.conf (PUB, SUB, PUB|SUB, DENY) is there; None for nothing."""
    actions = sorted({action for right in rights.split("|") for action in ACTIONS.get(right, ())})
    if rights == "DENY":
        return {"resource": resource, "actions": ["All"], "decision": "Deny"}
    if resource.startswith("Group:"):
        actions = [action for action in actions if action != "Pub"]
    return {"resource": resource, "actions": actions, "decision": "Allow"} if actions else None


def policies(user):
    named = [f"Topic:{one.strip()}" for one in user.get("topics", "").split(",") if one.strip()]
    custom = [entry(*one.rsplit("=", 1)) for one in named]
    default = [entry("Topic:*", user.get("default.topic", "")), entry("Group:*", user.get("default.group", ""))]
    return [{"policyType": kind, "entries": [one for one in entries if one]}
            for kind, entries in (("Custom", custom), ("Default", default)) if any(entries)]


def make_users(connection, path, access, secret):
    users = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    with open(path, encoding="utf-8") as f:
        users.read_file(f)
    requests = []
    for section in users.sections():
        user, name = users[section], users[section]["access_key"]
        if name == access:
            continue                            # the broker's own
        what = {"username": name, "password": user["secret_key"], "userType": "Super" if user.getboolean("admin", False) else "Normal"}
        requests.append((CREATE_USER, {"username": name}, what))
        if policies(user):
            requests.append((CREATE_ACL, {"subject": f"User:{name}"}, {"subject": f"User:{name}", "policies": policies(user)}))
    for code, fields, what in requests:
        body = json.dumps(what).encode()
        answer = ask(connection, code, signed(fields, body, access, secret), body)
        if answer["code"] != 0:
            sys.exit(f"{code} {fields}: {answer}")


def main(port, what, *args):
    if what == "route" and len(args) < 2:
        with connect(int(port), *args) as connection:
            sys.exit(ask(connection, GET_ROUTE, {"topic": "TBW102"})["code"] != 0)
    if what != "users" or len(args) != 3:
        sys.exit(__doc__)
    with connect(int(port)) as connection:
        make_users(connection, *args)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
