#!/usr/bin/env python3
"""Check, or with --fix set, the layout of every C file of ours: clang-format, and comments of at most 100 columns.

usage: run_format.py [--fix]"""
import os
import subprocess
import sys

sys.dont_write_bytecode = True
import tree  # noqa: E402
import wrap_comments  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    paths = tree.files(ROOT)
    if "--fix" in sys.argv[1:]:
        wrap_comments.wrap_files(os.path.join(ROOT, path) for path in paths)
        return subprocess.run(["clang-format", "-i", *paths], cwd=ROOT, check=False).returncode
    done = subprocess.run(["clang-format", "--dry-run", "--Werror", "--ferror-limit=1", *paths], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    faults = sorted({line.split(":")[0] for line in done.stderr.splitlines() if ": error:" in line})
    for path in faults:
        print(f"{path}: not as .clang-format wants it: cmake --build build --target format")
    if done.returncode != 0 and not faults:
        print(done.stderr.strip() or "clang-format failed")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
