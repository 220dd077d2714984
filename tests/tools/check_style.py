#!/usr/bin/env python3
"""Fail when a source file breaks a rule of the house style that a program can see.

usage: check_style.py [--shrink] [ROOT]
  --shrink  lower tests/tools/long_functions.txt to what the tree has now (it never adds or raises a line)
Each fault says what to use instead. Where a rule does not fit, the line says so, with the reason:
    free(text); /* allow(memory): json_dumps allocated it */
Functions may have 70 lines; the longer ones stand in tests/tools/long_functions.txt, which may only shrink."""
import os
import re
import sys

sys.dont_write_bytecode = True
import tree  # noqa: E402

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 1000
COLUMNS_MAX = 100
RATCHET = "tests/tools/long_functions.txt"

OURS = ("core", "txn", "outbox", "src")
PURE = ("core/store", "core/proto", "txn", "outbox")        # one door to disk, clock and randomness
UNIT = ("tests/unit", "tests/sim", "tests/fuzz")


def calls(names):
    """Calls of these functions, not of members or of longer names."""
    return re.compile(rf"(?<![\w.>])(?:{names})\s*\(")


class Rule:
    """Bans what the pattern finds in C code (comments and strings blanked) in some folders, except in others."""

    def __init__(self, name, pattern, instead, where=tree.TOPS, but=()):
        self.name, self.pattern, self.instead = name, pattern, instead
        self.where, self.but = where, but

    def applies(self, path):
        return tree.under(path, self.where) and not tree.under(path, self.but)


RULES = [
    Rule("bounds", calls("strcpy|stpcpy|strcat|strncat|sprintf|vsprintf|gets"),
         "writes without a bound: snprintf, struct buf or memcpy after a check"),
    Rule("parse", calls("atoi|atol|atoll|atof|sscanf|scanf|strtok"),
         "hides errors: slice_to_i64 and the other parsers of core/base/slice.h", but=("examples",)),
    Rule("threads", calls("strtok|gmtime|localtime|ctime|asctime|setlocale"),
         "shares a static buffer between threads: gmtime_r, localtime_r"),
    Rule("shell", calls("system|popen"), "runs a shell: no command is ever built from text", but=("tests",)),
    Rule("process", calls("fork|vfork|execv\\w*|execl\\w*|posix_spawn\\w*"), "starts a process: only tests may",
         where=OURS),
    Rule("memory", calls("malloc|calloc|realloc|reallocarray|strdup|strndup|free|alloca|asprintf|vasprintf"),
         "mem_alloc, mem_calloc, mem_realloc, mem_strdup, mem_free of core/base/mem.h", where=OURS,
         but=("core/base/mem.c",)),
    Rule("assert", calls("assert"), "CHECK of core/base/check.h (it stays on), or ck_assert in tests"),
    Rule("clock", calls("time|gettimeofday|clock|clock_gettime|ftime|uv_now|uv_hrtime|uv_update_time"),
         "time comes in with the event, or through struct clock of core/io/clock.h", where=(*OURS, *UNIT),
         but=("core/io_uv", "core/base/log.c", "tests/unit/core/io_uv")),
    Rule("sleep", calls("sleep|usleep|nanosleep|clock_nanosleep|uv_sleep"),
         "wait for the event, not for a time", where=(*OURS, "tests")),
    Rule("random", calls("rand|srand|random|srandom|drand48|rand_r"),
         "core/base/rand.h: seeded, so that a run can be repeated"),
    Rule("disk", calls("open|openat|creat|fopen|pread|pwrite|preadv2?|pwritev2?|fsync|fdatasync|ftruncate|rename|unlink|"
                       "mkdir|rmdir|mmap|opendir"),
         "touches the disk past the one door: core/io/disk.h", where=PURE),
    Rule("log", calls(r"log_\w*line|log_(?:debug|info|warn|error)"), "pure code returns errors, it does not log",
         where=("core/base", "core/proto", "txn"), but=("core/base/log.c", "core/base/log.h")),
    Rule("lock", re.compile(r"\b(?:pthread_(?:mutex|rwlock|spin|cond)\w*|uv_(?:mutex|rwlock|cond|sem)\w*|mtx_\w+|cnd_\w+)\b"),
         "one owning thread for everything; threads talk through core/io_uv/mailbox.h", where=OURS,
         but=("core/io_uv/mailbox.c", "core/io_uv/mailbox.h")),
    Rule("goto", re.compile(r"\bgoto\s+(?!out\b|\w*_out\b|out_\w+\b|fail\b|fail_\w+\b|err_?\w*\b)\w+"),
         "goto only to the clean-up at the end of a function (out)", where=OURS),
    Rule("typedef", re.compile(r"\btypedef\s+struct\b"), "name it struct x (only the public headers have typedefs)",
         where=OURS, but=("core/include",)),
]

# Found in the text as it stands: comments, strings and scripts included.
TEXT_RULES = [
    ("debt", re.compile(r"\b(?:FIX[M]E|XX[X])\b|\bTODO\b(?!\(#\d+\))"), "finish it, or TODO(#123) with the number of an issue"),
    ("paths", re.compile(r"(?<![\w.$}])/(?:root|home/\w+|w[o]rk|tmp/[e]sc)(?=[/\s\"']|$)"),
     "a path of one machine: derive it from the repository or from the environment"),
]
SCRIPT_RULES = [
    ("sleep", re.compile(r"^\s*sleep\b|[;&|]\s*sleep\b|\btime\.sleep\s*\("), "wait for the event, not for a time"),
]
SCRIPTS = (".sh", ".py")
TEXTS = (".c", ".h", ".sh", ".py", ".sql", ".md", ".cmake", ".txt", ".conf", ".in", ".service")


def allowed(lines, number, name):
    """Does this line, or the one above, carry allow(name) with a reason?"""
    near = " ".join(lines[max(0, number - 2):number])
    return re.search(rf"allow\({name}\): *\w+", near) is not None


def check_rules(path, text, code):
    lines = text.splitlines()
    for rule in RULES:
        if not rule.applies(path):
            continue
        for match in rule.pattern.finditer(code):
            number = tree.line_of(code, match.start())
            if not allowed(lines, number, rule.name):
                found = match.group(0).rstrip(" (\n")
                yield number, f"{found}: {rule.instead} [{rule.name}]"


def check_text(path, text):
    lines = text.splitlines()
    rules = TEXT_RULES + (SCRIPT_RULES if path.endswith(SCRIPTS) and path.startswith("tests/") else [])
    for name, pattern, instead in rules:
        for number, line in enumerate(lines, 1):
            match = pattern.search(line)
            if match and not allowed(lines, number, name):
                yield number, f"{match.group(0).strip()}: {instead} [{name}]"


def check_shape(path, text):
    lines = text.splitlines()
    if len(lines) > FILE_LINES_MAX and "Long because" not in "\n".join(lines[:40]):
        yield FILE_LINES_MAX, f"{len(lines)} lines: split it, or say at the top 'Long because ...' [size]"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX and not re.search(r'https?://|"[^"]*"\W*$', line):  # a text one can search for
            yield number, f"{len(line)} columns, at most {COLUMNS_MAX} [columns]"
        if line != line.rstrip() or "\t" in line:
            yield number, "tab, or white space at the end of the line [columns]"
    if path.endswith(".h"):
        guard = re.sub(r"\W", "_", path.removeprefix("core/include/")).upper()
        if f"#ifndef {guard}\n" not in text:
            yield 1, f"the include guard is {guard} [guard]"


def include_rank(path, quote, header, rank_before):
    """Own header 0, ours 1, third-party 2, system 3."""
    if header == path[:-2] + ".h" or (header == path[:-2] + "_private.h" and rank_before == 0):
        return 0
    if quote == '"' or header.startswith("escrow/"):
        return 1
    return 3 if tree.SYSTEM.match(header) else 2


def check_includes(root, path, text):
    if not path.endswith(".c") or path.startswith("examples/"):
        return
    rank_before, seen = 0, False
    own = path[:-2] + ".h"
    for number, line in enumerate(tree.blank(text, strings=False).splitlines(), 1):
        match = tree.INCLUDE.match(line)
        if not match:
            continue
        rank = include_rank(path, *match.groups(), rank_before)
        if not seen and rank != 0 and os.path.exists(os.path.join(root, own)):
            yield number, f'include "{own}" first: it proves that the header stands alone [includes]'
        if rank < rank_before:
            yield number, "order of includes: own header, ours, third-party, system [includes]"
        rank_before, seen = rank, True


# --- Functions over 70 lines: a ratchet ----------------------------------------------------------------------------

def long_functions(root):
    found = {}
    for path in tree.files(root, endings=(".c",)):
        for name, first, last in tree.functions(tree.read(root, path)):
            if last - first + 1 > FUNCTION_LINES_MAX:
                found[(path, name)] = (last - first + 1, first)
    return found


def read_ratchet(root):
    if not os.path.exists(os.path.join(root, RATCHET)):
        return {}
    rows = [line.split() for line in tree.read(root, RATCHET).splitlines() if line and line[0] != "#"]
    return {(path, name): int(lines) for path, name, lines in rows}


def check_ratchet(root):
    known, found = read_ratchet(root), long_functions(root)
    for (path, name), (lines, first) in sorted(found.items()):
        if (path, name) not in known:
            yield path, first, f"{name} has {lines} lines, at most {FUNCTION_LINES_MAX} [length]"
        elif lines > known[path, name]:
            yield path, first, f"{name} grew from {known[path, name]} to {lines} lines: it may only shrink [length]"
    for (path, name), lines in sorted(known.items()):
        if found.get((path, name), (0, 0))[0] < lines:
            yield RATCHET, 1, f"{path} {name} is shorter than {lines} lines now: run check_style.py --shrink [length]"


def shrink(root):
    found = long_functions(root)
    kept = [f"{path} {name} {min(lines, found[path, name][0])}"
            for (path, name), lines in sorted(read_ratchet(root).items()) if (path, name) in found]
    head = [line for line in tree.read(root, RATCHET).splitlines() if line.startswith("#")]
    with open(os.path.join(root, RATCHET), "w", encoding="utf-8") as f:
        f.write("\n".join(head + kept) + "\n")


def check(root):
    """Yields (path, line number, what is wrong)."""
    for path in tree.files(root, endings=TEXTS, tops=(*tree.TOPS, "sql", ".ci")):
        text = tree.read(root, path)
        for number, fault in check_text(path, text):
            yield path, number, fault
        if not path.endswith((".c", ".h")):
            continue
        code = tree.blank(text)
        for number, fault in (*check_rules(path, text, code), *check_shape(path, text),
                              *check_includes(root, path, text)):
            yield path, number, fault
    yield from check_ratchet(root)


def main():
    arguments = [a for a in sys.argv[1:] if a != "--shrink"]
    root = arguments[0] if arguments else "."
    if "--shrink" in sys.argv[1:]:
        shrink(root)
    faults = list(check(root))
    for path, number, fault in faults:
        print(f"{path}:{number}: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
