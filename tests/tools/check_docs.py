#!/usr/bin/env python3
"""Fail when a document no longer says what the code does.

usage: check_docs.py [ROOT]
1. Each row of an X-macro table (errors, request and response codes, record types, half states) is a row of a table in
   its document, with the same number; each number of the disk format stands in FORMAT.md (TABLES, CONSTANTS).
2. Each table, function and view of sql/*.sql is named in sql/README.md, and the parameters that it gives of a function are
   those that one of that name begins with: services call with names. Each numbered file has its line with number, name and
   CRC-32C there, for psql.
3. Each source file is named (in `code` or in the first column of a table) by the README.md of its folder, or of one above.
4. Each option of a program stands in its example configuration (OPTIONS).
5. Each relative link of a document leads to a file.
6. Each cell of README.md's tables of clients names cases that the client's program in tests/interop has, each case is in a cell,
   each client of tests/interop/run.sh is named, and the versions in the heads are those that are fetched (check_cases says what
   a cell may be).
7. Each row of tests/interop/DIFFERENCES.md is about a case that there is."""
import fnmatch
import os
import re
import sys

sys.dont_write_bytecode = True
import tree  # noqa: E402

# (file with the table, its name, columns that the document's row must have too, document)
TABLES = [
    ("core/include/escrow/errors.h", "ESCROW_ERRORS", 3, "core/proto/PROTOCOL.md"),
    ("core/proto/codes.h", "REQUEST_CODES", 2, "core/proto/PROTOCOL.md"),
    ("core/proto/codes.h", "RESPONSE_CODES", 2, "core/proto/PROTOCOL.md"),
    ("core/proto/codes.h", "LANGUAGES", 2, "core/proto/PROTOCOL.md"),
    ("core/store/envelope.h", "STORE_TYPES", 2, "core/store/FORMAT.md"),
    ("txn/half.h", "HALF_STATES", 1, "txn/STATES.md"),
]
# Numbers of the disk format: (folder, names, document)
CONSTANTS = [("core/store", r"\w+_(?:MAGIC|VERSION|ALIGN|RESERVE|ENTRY_SIZE|FILE_ENTRIES)|ENVELOPE_SIZE", "core/store/FORMAT.md")]
# (file with an X-macro table of options, its name, columns of key and default, example configuration)
OPTIONS = [("src/broker/config.h", "CONFIG_OPTIONS", (1, 3), "src/packaging/escrowd.conf"),
           ("src/relay/options.h", "RELAY_OPTIONS", (1, 3), "src/packaging/escrow-relay.conf")]
# How the programs of tests/interop say which cases they have; group 1 is the name.
CASES = {".java": r'\bcases\.put\("([^"]+)"', ".go": r'^\t\{"([^"]+)", ', ".c": r'^    \{"([^"]+)", case_\w+\}',
         ".js": r"^  (?:async )?'?([\w-]+)'?(?:\(kit\)|: kit =>)", ".py": r'^    "([^"]+)": case_\w+'}
# Conditions of cases in a Java program: the clients that do not meet them.
UNMET = {"Kit.isVersion5()": ("java-4.9", "mqadmin-4.9"), "!isRequestBroken()": ("spring-2.3",)}
# Files beside the programs, and in the folder above, that say which versions of the clients are fetched.
PINS = ("client.sh", "go.mod", "package.json", "requirements.txt", "../boot_client.sh")
# Where tests of libescrow that are not cases of its program stand.
LIBRARY_TESTS = "tests/integration/client"
# Folders whose files are described by a rule, not one by one.
UNLISTED = ("tests/unit", "tests/fuzz")


def load(root, path):
    """The text of a file, or None (then a fault is reported once by missing())."""
    return tree.read(root, path) if os.path.exists(os.path.join(root, path)) else None


def rows_of(text, table):
    """The rows of `#define table(X) X(a, b, ...) X(...)`, as lists of strings."""
    match = re.search(rf"#\s*define\s+{table}\(X\)((?:[^\n]*\\\n)*[^\n]*)", text)
    if not match:
        return []
    body = tree.blank(match.group(1), strings=False).replace("\\\n", "  ")
    code = tree.blank(body)                     # the same length, without strings: commas and brackets are real ones
    rows = []
    for row in re.finditer(r"\bX\(((?:[^()]|\([^()]*\))*)\)", code):
        cuts = [row.start(1) - 1, *(row.start(1) + i for i, c in enumerate(row.group(1)) if c == ","), row.end(1)]
        rows.append([body[begin + 1:end].strip() for begin, end in zip(cuts, cuts[1:])])
    return rows


def words(line):
    return set(re.findall(r"-?\w+", line.replace("ESCROW_", " ").replace(",", "")))


def check_tables(root):
    for source, table, columns, document in TABLES:
        text, page = load(root, source), load(root, document)
        if text is None:
            continue
        rows = rows_of(text, table)
        if not rows:
            yield source, f"no table {table}: tell tests/tools/check_docs.py where it went"
        if page is None:
            yield document, f"is missing: it describes {table} of {source}"
            continue
        lines = [words(line) for line in page.splitlines() if line.lstrip().startswith("|")]
        for row in rows:
            want = {cell.replace("ESCROW_", "") for cell in row[:columns]}
            if not any(want <= line for line in lines):
                yield document, f"no table row with {', '.join(row[:columns])} ({table} of {source})"


def check_constants(root):
    for folder, names, document in CONSTANTS:
        page = load(root, document)
        if page is None:
            continue
        known = {w.lower() for w in words(page)}
        for path in tree.files(root, (".h",), (folder,)):
            for name, value in re.findall(rf"#define\s+({names})\s+(?:UINT\d+_C\()?(\w+)", tree.read(root, path)):
                if re.match(r"\d", value) and value.lower().rstrip("ul") not in known:
                    yield document, f"does not name {value.rstrip('uUlL')} ({name} of {path})"


def check_sql(root):
    made = re.compile(r"^\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?:UNLOGGED\s+)?(?:TABLE|FUNCTION|PROCEDURE|VIEW|TYPE)\s+"
                      r"(?:IF\s+NOT\s+EXISTS\s+)?escrow\.(\w+)", re.I | re.M)
    scripts = tree.files(root, (".sql",), ("sql",))
    page = load(root, "sql/README.md")
    if scripts and page is None:
        yield "sql/README.md", "is missing"
        return
    for path in scripts:
        for name in sorted(set(made.findall(re.sub(r"--[^\n]*", "", tree.read(root, path))))):
            if name not in words(page):
                yield "sql/README.md", f"does not name escrow.{name} ({path})"


def check_parameters(root):
    taken = {}                                      # name of a function: the parameters of each that has it
    for path in tree.files(root, (".sql",), ("sql",)):
        text = re.sub(r"--[^\n]*", "", tree.read(root, path))
        for name, inside in re.findall(r"\bCREATE\s+(?:OR\s+REPLACE\s+)?FUNCTION\s+escrow\.(\w+)\s*\(([^()]*)\)", text, re.I):
            parts = [part.split() for part in inside.split(",") if part.strip()]
            taken.setdefault(name, []).append([part[0] for part in parts if part[0].upper() != "OUT"])
    for name, inside in re.findall(r"\bescrow\.(\w+)\(([^()]*)\)", load(root, "sql/README.md") or ""):
        given = [part.split()[0] for part in inside.split(",") if part.strip()]
        if given[-1:] == ["..."]:
            given.pop()
        if name in taken and not any(given == names[:len(given)] for names in taken[name]):
            yield "sql/README.md", f"gives escrow.{name} parameters that it does not have: {', '.join(given)}"


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def check_by_hand(root):
    lines = (load(root, "sql/README.md") or "").splitlines()
    for path in tree.files(root, (".sql",), ("sql",)):
        name = os.path.basename(path)[:-len(".sql")]
        if re.match(r"\d{3}_", name):
            line = f"{int(name[:3])} {name} {crc32c(tree.read(root, path).encode()):08x}"
            if line not in lines:
                yield "sql/README.md", f"has no line '{line}' among those to be run by hand"


class Page:
    """The names a README.md gives: every word of its `code` and code blocks, and of the first cells of its tables."""

    def __init__(self, text):
        parts = re.findall(r"```.*?```|`[^`\n]+`|^\|[^|\n]*\|", text, re.S | re.M)
        self.names = {w for part in parts for w in re.findall(r"[\w-]+", part)}
        self.families = tuple(re.findall(r"\b(\w+_)<\w+>", text))        # handle_<request> stands for many files

    def has(self, stem):
        return stem in self.names or (bool(self.families) and stem.startswith(self.families))


def check_folders(root):
    pages, unnamed = {}, {}

    def page_of(folder):
        if folder not in pages:
            text = load(root, os.path.join(folder, "README.md"))
            pages[folder] = Page(text) if text is not None else None
        return pages[folder]

    for path in tree.files(root, (".c", ".h", ".sql", ".py", ".sh"), (*tree.TOPS, "sql")):
        if tree.under(path, UNLISTED) or path.endswith("_private.h"):
            continue
        stem, near = os.path.splitext(os.path.basename(path))[0], os.path.dirname(path)
        while near and not (page_of(near) and page_of(near).has(stem)):
            near = os.path.dirname(near)
        if not near:
            unnamed.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
    for folder, names in sorted(unnamed.items()):
        what = "is missing; it would name" if page_of(folder) is None else "does not name"
        yield f"{folder}/README.md", f"{what} {', '.join(names)}"


def check_options(root):
    for source, table, (key_at, default_at), document in OPTIONS:
        text, page = load(root, source), load(root, document)
        if text is None:
            continue
        rows = rows_of(text, table)
        if not rows:
            yield source, f"no table {table}: tell tests/tools/check_docs.py where it went"
        for row in rows:
            key, default = row[key_at].strip('"'), row[default_at].strip('"')
            line = re.search(rf"^# *{re.escape(key)} *= *(.*)$", page or "", re.M)
            if not line:
                yield document, f"has no line '#{key} = {default}' ({source})"
            elif line.group(1).strip() != default:
                yield document, f"gives {key} the default '{line.group(1).strip()}', {source} says '{default}'"


def check_links(root):
    for path in tree.files(root, (".md",), (*tree.TOPS, "sql")) + ["README.md"]:
        page = load(root, path) or ""
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```|`[^`\n]*`", "", page, flags=re.S)):
            if "://" not in link and not link.startswith("mailto:"):
                if not os.path.exists(os.path.join(root, os.path.dirname(path), link)):
                    yield path, f"links to {link}, which is not there"


def cases_of(root, clients):
    """{client: names of its cases}, and the conditions that UNMET does not know."""
    found, unknown = {client: set() for client in clients}, set()
    for client in clients:
        for path in tree.files(root, tuple(CASES), (f"tests/interop/{client.split('-')[0]}",)):
            text, pattern = tree.read(root, path), re.compile(CASES[os.path.splitext(path)[1]], re.M)
            for block in re.finditer(r"^( +)if \(([^\n]*)\) \{\n(.*?)^\1\}", text, re.M | re.S):
                if path.endswith(".java") and pattern.search(block.group(3)):
                    if block.group(2) not in UNMET:
                        unknown.add((path, block.group(2)))
                    elif client.removesuffix("-rocketmq") in UNMET[block.group(2)]:
                        text = text.replace(block.group(0), "")
            found[client] |= set(pattern.findall(text))
    return found, sorted(unknown)


def case_rows(page):
    """(cells of the head, cells of the row) of each row of the tables whose second column is "Case"."""
    head = None
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            head = None
        elif head is None:
            head = cells
        elif head[1:2] == ["Case"] and not re.fullmatch(r"[-: |]+", line):
            yield head, cells


def code(cell):
    return re.findall(r"`([^`\n]+)`", cell)


def check_versions(root, title, clients):
    """Yields each version in the head of a column that none of its clients is fetched in."""
    paths = [os.path.normpath(f"tests/interop/{client.split('-')[0]}/{name}") for client in clients for name in PINS]
    pins = " ".join(load(root, path) or "" for path in paths)
    for version in re.findall(r"\d+(?:\.\d+){2,}", title):
        if not re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", pins):
            yield f"names version {version}, which is not fetched"


def check_cell(root, cases, clients, names, cell):
    """Yields the (client, case) that a cell of a column shows, and texts for what it shows wrongly."""
    if not re.fullmatch(r"-|n/a|(?:yes|`[^`]+`)(?:, `[^`]+`)*", cell):
        yield f"says '{cell}': expected yes, names of cases, - or n/a"
        return
    shown = [(client, name) for client in clients for name in (names if cell.startswith("yes") else [])]
    for name in code(cell):
        client, _, case = name.partition("/")
        if case:
            shown.append((client, case))
        elif name in cases:
            continue                                # a client that is all the cases again
        elif name.startswith("test_") and clients == ["c"]:
            if not os.path.exists(os.path.join(root, LIBRARY_TESTS, f"{name}.c")):
                yield f"names {name}, which is not in {LIBRARY_TESTS}"
        else:
            shown += [(client, name) for client in clients]
    for client, case in shown:
        if case in cases.get(client, ()):
            yield client, case
        else:
            yield f"names {client}/{case}, and there is no such case"


def check_cases(root):
    """A column has the names of its clients in `code` in its head. A cell is `yes`: each of them has the row's cases; names of
    cases, of any client as `client/case`, of a client that runs all of another's again, of tests of libescrow; `-`: there is no case; or
    `n/a`."""
    script, page = load(root, "tests/interop/run.sh"), load(root, "README.md") or ""
    if script is None:
        return
    cases, unknown = cases_of(root, re.search(r"^clients=\(([^)]*)\)", script, re.M).group(1).split())
    for path, condition in unknown:
        yield path, f"cases depend on {condition}: tell tests/tools/check_docs.py which clients do not meet it"
    columns, shown = set(), set()                   # clients that have a column, (client, case) that is in a cell
    for head, cells in case_rows(page):
        if len(cells) != len(head):
            yield "README.md", f"row '{cells[0]}' has {len(cells)} cells, its table {len(head)} columns"
        for title, cell in zip(head[2:], cells[2:]):
            clients = [client for client in code(title) if client in cases]
            columns |= set(clients)
            for fault in check_versions(root, title, clients):
                yield "README.md", f"column '{title}' {fault}"
            for found in check_cell(root, cases, clients, code(cells[1]), cell):
                if isinstance(found, str):
                    yield "README.md", f"row '{cells[0]}', column '{title}' {found}"
                else:
                    shown.add(found)
    named = code(re.sub(r"```.*?```", "", page, flags=re.S))
    for client in cases:
        if client not in named:
            yield "README.md", f"does not name the client {client} of tests/interop/run.sh"
    for client in sorted(columns):
        for case in sorted(cases[client]):
            if (client, case) not in shown:
                yield "README.md", f"has {client}/{case} in no cell"


def check_differences(root):
    """Yields each case of the tables of differences that no client has: nobody would look whether the difference is there."""
    page, script = load(root, "tests/interop/DIFFERENCES.md"), load(root, "tests/interop/run.sh")
    if page is None or script is None:
        return
    cases, _ = cases_of(root, re.search(r"^clients=\(([^)]*)\)", script, re.M).group(1).split())
    names = [f"{client}/{case}" for client, found in cases.items() for case in found]
    for line in page.splitlines():
        for pattern in code(line.split("|")[1]) if line.startswith("| `") else []:
            if not fnmatch.filter(names, pattern):
                yield "tests/interop/DIFFERENCES.md", f"has a row about {pattern}, and there is no such case"


def check(root):
    """Yields (path, what is wrong), each once."""
    seen = set()
    for part in (check_tables, check_constants, check_sql, check_parameters, check_by_hand, check_folders, check_options, check_links,
                 check_cases, check_differences):
        for fault in part(root):
            if fault not in seen:
                seen.add(fault)
                yield fault


def main():
    faults = list(check(sys.argv[1] if len(sys.argv) > 1 else "."))
    for path, fault in faults:
        print(f"{path}: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
