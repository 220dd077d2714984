#!/usr/bin/env python3
"""Fail when an #include crosses the layering.

usage: check_layers.py [ROOT]
Rules: (1) a project include names its path from the repository root ("core/store/segment.h"), a public one is
"escrow/..."; (2) it points to the same folder or to one that ALLOW lists for it; (3) a *_private.h is included only
from its own folder and its unit tests; (4) a third-party header, and a few system headers, are named only where OWNERS
says. A new third-party header needs a line in OWNERS: say which one module wraps it.
A main.c is a composition root: it wires modules together and may include all of them."""
import os
import sys

sys.dont_write_bytecode = True
import tree  # noqa: E402

API, BASE, PROTO, IO, UV, STORE = ("core/include", "core/base", "core/proto", "core/io", "core/io_uv", "core/store")
FILTER = "core/filter"
ACL = "core/acl"
TLS = "core/tls"
CLIENT = "src/client"
TOOLS = "src/tools"
ALL = "*"
ALLOW = {
    API: [],
    BASE: [API],
    PROTO: [API, BASE],
    IO: [API, BASE],
    TLS: [API, BASE],
    UV: [API, BASE, IO, TLS],
    STORE: [API, BASE, IO, PROTO],
    FILTER: [API, BASE, PROTO],
    ACL: [API, BASE, PROTO],
    "core/repl": [API, BASE, IO, PROTO, STORE],
    "txn": [API, BASE, IO, PROTO, STORE],
    "outbox": [API, BASE, IO],
    "outbox/pg": [API, BASE, IO, UV, "outbox"],
    CLIENT: [API, BASE, PROTO, FILTER, ACL, IO, UV],
    "src/namesrv": [API, BASE, PROTO, IO, UV],
    "src/admin": [API, BASE, IO, UV],
    "src/broker": [ALL],
    "src/relay": [API, BASE, IO, UV, PROTO, ACL, CLIENT, "outbox", "outbox/pg"],
    TOOLS: [API, BASE, IO, UV, PROTO, ACL, STORE, CLIENT, "txn"],
    "src/tools/copy": [API, BASE, IO, UV, PROTO, CLIENT, TOOLS],
    "examples": [API],
    "tests": [ALL],
}
OWNERS = {
    "check.h": ["tests"],
    "curl/curl.h": [UV, "outbox/pg", "src/tools", "tests"],
    "ini.h": ["src/broker", "src/relay", "tests"],
    "jansson.h": [PROTO, "outbox/pg", "tests"],
    "libdeflate.h": [PROTO, BASE, "tests"],
    "lz4frame.h": [PROTO],
    "zstd.h": [PROTO],
    "libpq-fe.h": ["outbox/pg", CLIENT, API, "examples", "tests"],
    "libpq-events.h": [CLIENT],
    "microhttpd.h": ["outbox/pg", "tests"],
    "msgpack.h": [PROTO, "tests"],
    "openssl": [ACL, TLS, "tests"],
    "pthread.h": [UV, "examples", "tests"],
    "uv.h": [UV, "outbox/pg", "src", "tests"],
    "zlib.h": [PROTO, "tests"],
}


def layer(folder):
    return max((k for k in ALLOW if tree.under(folder, [k])), key=len, default=None)


def fault_of_system(path, header):
    """What is wrong with #include <header> in path, or None."""
    owners = OWNERS.get(header, OWNERS.get(header.split("/")[0]))
    if owners is not None:
        return None if tree.under(path, owners) else f"<{header}> belongs to {', '.join(owners)}"
    if header.startswith("escrow/") or tree.SYSTEM.match(header):
        return None
    return f"<{header}> has no owner: add it to OWNERS in tests/tools/check_layers.py"


def fault_of_project(path, header):
    """What is wrong with #include "header" in path, or None."""
    folder = os.path.dirname(path)
    if header.startswith("escrow/"):
        return None                                     # every layer may see the public headers
    mine, other = layer(folder), layer(os.path.dirname(header))
    if other is None or ".." in header:
        return "include by path from the repository root"
    if header.endswith("_private.h") and os.path.dirname(header) not in (folder, folder.removeprefix("tests/unit/")):
        return "private header of another folder"
    if os.path.basename(path) == "main.c" or mine is None or other == mine:
        return None
    if ALL in ALLOW[mine] or other in ALLOW[mine]:
        return None
    return f"{mine} must not see {other}"


def check(root):
    """Yields (path, line number, what is wrong)."""
    for path in tree.files(root):
        text = tree.blank(tree.read(root, path), strings=False)
        for number, line in enumerate(text.splitlines(), 1):
            match = tree.INCLUDE.match(line)
            if not match:
                continue
            quote, header = match.groups()
            fault = fault_of_system(path, header) if quote == "<" else fault_of_project(path, header)
            if fault:
                yield path, number, fault


def main():
    faults = list(check(sys.argv[1] if len(sys.argv) > 1 else "."))
    for path, number, fault in faults:
        print(f"{path}:{number}: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
