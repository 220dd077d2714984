#!/usr/bin/env python3
"""What a client's program printed with escrowd, and with Apache RocketMQ's servers: a difference is a row of DIFFERENCES.md, or a failure.

usage: compare.py known NAME OUTPUT <LINES    of one client: LINES are `ok CASE` and `FAIL CASE: why`, OUTPUT all that it printed
       compare.py both FOLDER FOLDER-rocketmq of a client with both: `results` and `output.log` are there
A program prints facts of a case as `note CASE WHAT: VALUE`; `ok` or `FAIL` is the fact `result`.
known prints LINES again. Where a row says what a fact is with this server, it must be that: then the line is `differs CASE: WHAT...`, else
FAIL, also when the row's difference is gone.
both prints a FAIL line for each other fact of a case that is not the same with both."""
import fnmatch
import os
import re
import sys

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "DIFFERENCES.md")
SUFFIX = "-rocketmq"
LONGEST = 300  # of a value that is printed


def code(cell):
    """The texts in `code` of a cell; `` `-` `` is nothing printed."""
    return [text.replace("\\|", "|") for text in re.findall(r"`([^`]*)`", cell)]


def rows_of(page):
    """[(patterns of CLIENT/CASE, what, value with escrowd, value with RocketMQ)] of the table."""
    rows = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and cells[0].startswith("`"):
            patterns, whats, (ours,), (theirs,) = (code(cell) for cell in cells[:4])
            if ours == theirs:
                raise ValueError(f"not a difference: {line}")
            rows += [(patterns, what, ours, theirs) for what in whats]
    return rows


def notes_of(output):
    """{case: {what: value}}; what is printed more than once has all its values, in order."""
    notes = {}
    for line in output.splitlines():
        match = re.match(r"note (\S+) ([^:]+): ?(.*)$", line)
        if match:
            case, what, value = match.groups()
            facts = notes.setdefault(case, {})
            facts[what] = f"{facts[what]}; {value}" if what in facts else value
    return notes


def rows_for(rows, client, case):
    """{what: (value with escrowd, value with RocketMQ)} that the table has for a case."""
    return {what: (ours, theirs) for patterns, what, ours, theirs in rows
            if any(fnmatch.fnmatchcase(f"{client}/{case}", pattern) for pattern in patterns)}


def known(rows, name, lines, output):
    """The lines again, as the table has them."""
    client, side = name.removesuffix(SUFFIX), 1 if name.endswith(SUFFIX) else 0
    notes = notes_of(output)
    for line in lines:
        result, case = re.match(r"(\w+) ([^:\s]+)", line).groups()
        facts = {**notes.get(case, {}), "result": result}
        here = rows_for(rows, client, case)
        wrong = [f"{what} is '{facts.get(what, '-')}', DIFFERENCES.md says '{values[side]}'"
                 for what, values in sorted(here.items()) if facts.get(what, "-") != values[side]]
        if result == "FAIL" and "result" not in here:
            yield line
        elif wrong:
            yield f"FAIL {case}: {'; '.join(wrong)}" + (f" ({line})" if result == "FAIL" else "")
        elif here and side == 1:
            yield f"differs {case}: {', '.join(sorted(here))}"
        else:
            yield line


def both(rows, client, ours, theirs):
    """A line for each difference that the table does not have; ours and theirs are (lines, output) of the two."""
    def facts(lines, output):
        notes, good = notes_of(output), [line.split()[1].rstrip(":") for line in lines if line.startswith(("ok ", "differs "))]
        return {case: notes.get(case, {}) for case in good}
    one, other = facts(*ours), facts(*theirs)
    for case in one.keys() & other.keys():
        here = rows_for(rows, client, case)
        if "result" in here:
            continue                            # it did not come to the end with one of them
        for what in sorted((one[case].keys() | other[case].keys()) - here.keys()):
            values = [facts[case].get(what, "-")[:LONGEST] for facts in (other, one)]
            if values[0] != values[1]:
                yield f"FAIL {case}: {what} is '{values[0]}', with escrowd '{values[1]}'"


def load(*path):
    with open(os.path.join(*path), encoding="utf-8", errors="replace") as f:
        return f.read()


def main(args):
    rows = rows_of(load(PAGE))
    if args[:1] == ["known"] and len(args) == 3:
        found = known(rows, args[1], sys.stdin.read().splitlines(), load(args[2]))
    elif args[:1] == ["both"] and len(args) == 3:
        folders = [(load(folder, "results").splitlines(), load(folder, "output.log")) for folder in args[1:]]
        found = sorted(both(rows, os.path.basename(args[1]), *folders))
    else:
        sys.exit(__doc__)
    for line in found:
        print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
