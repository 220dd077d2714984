#!/usr/bin/env python3
"""Lines and branches that the tests reached, per folder, from a build with -DESCROW_COVERAGE=ON whose tests have run.

usage: coverage.py BUILD_FOLDER [--files] [--missing PATH]
  --files         one row per file
  --missing PATH  the lines of one file that were not reached
Exit status 1 when a folder is below its floor."""
import gzip
import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import tree  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = ("core", "txn", "outbox", "src")
LINES_FLOOR = {"core/store": 90, "txn": 90}     # percent; the parts where a mistake loses a message


def reports(build):
    """gcov's report of every object, also of those that never ran."""
    data = [os.path.join(folder, name) for folder, _, names in os.walk(build) for name in names if name.endswith(".gcno")]
    with tempfile.TemporaryDirectory() as scratch:
        for at in range(0, len(data), 100):
            subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--hash-filenames", "--preserve-paths",
                            *map(os.path.abspath, data[at:at + 100])],
                           cwd=scratch, capture_output=True, check=True)
        for name in sorted(os.listdir(scratch)):
            with gzip.open(os.path.join(scratch, name), "rt", encoding="utf-8") as f:
                yield json.load(f)


def collect(build):
    """{path: ({line: times}, {(line, branch): times})} of our files, added up over all programs."""
    found = {}
    for report in reports(build):
        for entry in report["files"]:
            path = os.path.relpath(os.path.join(report["current_working_directory"], entry["file"]), ROOT)
            if not tree.under(path, OURS):
                continue
            lines, branches = found.setdefault(path, ({}, {}))
            for line in entry["lines"]:
                number = line["line_number"]
                lines[number] = lines.get(number, 0) + line["count"]
                for at, branch in enumerate(line["branches"]):
                    branches[number, at] = branches.get((number, at), 0) + branch["count"]
    return found


def percent(counts):
    return 100.0 * sum(1 for c in counts if c) / len(counts) if counts else 100.0


def show(rows):
    """Prints one row per name; returns False when one is below its floor."""
    good = True
    print(f"{'':44} {'lines':>7} {'branches':>9}")
    for name, (lines, branches) in sorted(rows.items()):
        floor = LINES_FLOOR.get(name, 0)
        below = percent(lines) < floor
        good = good and not below
        print(f"{name:44} {percent(lines):6.1f}% {percent(branches):8.1f}%" + (f"   below {floor}%" if below else ""))
    return good


def main():
    found = collect(sys.argv[1])
    if "--missing" in sys.argv:
        lines = found[sys.argv[sys.argv.index("--missing") + 1]][0]
        print(*(number for number, times in sorted(lines.items()) if not times))
        return 0
    rows = {}
    for path, (lines, branches) in found.items():
        row = rows.setdefault(path if "--files" in sys.argv else os.path.dirname(path), ([], []))
        row[0].extend(lines.values())
        row[1].extend(branches.values())
    return 0 if show(rows) and rows else 1


if __name__ == "__main__":
    sys.exit(main())
