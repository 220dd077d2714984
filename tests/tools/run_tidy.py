#!/usr/bin/env python3
"""Run clang-tidy over our files, as many at once as there are processors, skipping what has not changed.

usage: run_tidy.py BUILD_FOLDER [FILE...]
Reads BUILD_FOLDER/compile_commands.json; FILEs (or parts of their paths) narrow it down. A file that was clean is
remembered in BUILD_FOLDER/tidy-cache under a hash of everything that decides the outcome: its text and that of every
header of ours it includes, the flags, .clang-tidy and the version of clang-tidy."""
import concurrent.futures
import hashlib
import json
import os
import shlex
import subprocess
import sys

sys.dont_write_bytecode = True
import tree  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Checks that take long, or that only make sense for what runs in production, are left out for tests.
FEWER_FOR_TESTS = ("--checks=-readability-function-size,-readability-function-cognitive-complexity,"
                   "-clang-analyzer-*,-cert-err33-c,-concurrency-mt-unsafe,-bugprone-reserved-identifier,"
                   "-bugprone-implicit-widening-of-multiplication-result")
# The analyzer walks a tenth of the paths it would by default: most of its time went into a handful of functions.
ANALYZER = ["-Xclang", "-analyzer-config", "-Xclang", "max-nodes=20000"]


def flags_of(entry):
    """The flags that matter to a parser; gcc's others would only confuse clang."""
    arguments = shlex.split(entry["command"]) if "command" in entry else entry["arguments"]
    kept, take_next = [], False
    for argument in arguments:
        if take_next or argument.startswith(("-I", "-D", "-U", "-std=")):
            kept.append(argument)
            take_next = False
        elif argument in ("-isystem", "-include"):
            kept.append(argument)
            take_next = True
    return [f for f in kept if "_FORTIFY_SOURCE" not in f]


def jobs_of(build, wanted):
    """{path from the root: flags} of our own C files."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        entries = json.load(f)
    jobs = {}
    for entry in entries:
        path = os.path.relpath(os.path.join(entry["directory"], entry["file"]), ROOT)
        if tree.under(path, tree.TOPS) and os.path.exists(os.path.join(ROOT, path)):
            if not wanted or any(w in path for w in wanted):
                jobs[path] = flags_of(entry)
    return jobs


class Hasher:
    def __init__(self):
        self.seen = {}

    def headers(self, path):
        """Every header of ours that path includes, directly or not."""
        if path not in self.seen:
            self.seen[path] = set()
            for line in tree.read(ROOT, path).splitlines():
                match = tree.INCLUDE.match(line)
                for folder in ("", "core/include") if match else ():
                    header = os.path.join(folder, match.group(2))
                    if os.path.exists(os.path.join(ROOT, header)):
                        self.seen[path] |= {header} | self.headers(header)
        return self.seen[path]

    def key(self, path, command):
        digest = hashlib.sha256(repr(command).encode())
        for name in [".clang-tidy", path, *sorted(self.headers(path))]:
            digest.update(name.encode() + b"\0" + tree.read(ROOT, name).encode())
        return digest.hexdigest()


def run(path, command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return path, done.returncode, done.stdout or (done.stderr if done.returncode else "")


def main():
    if len(sys.argv) < 2 or not os.path.exists(os.path.join(sys.argv[1], "compile_commands.json")):
        print("usage: run_tidy.py BUILD_FOLDER [FILE...]; BUILD_FOLDER has compile_commands.json", file=sys.stderr)
        return 2
    build = os.path.abspath(sys.argv[1])
    cache = os.path.join(build, "tidy-cache")
    os.makedirs(cache, exist_ok=True)
    version = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout
    hasher, todo = Hasher(), []
    jobs = jobs_of(build, sys.argv[2:])
    for path, flags in sorted(jobs.items(), key=lambda job: -os.path.getsize(os.path.join(ROOT, job[0]))):
        fewer = [FEWER_FOR_TESTS] if path.startswith("tests/") else []
        command = ["clang-tidy", "--quiet", *fewer, path, "--", "-Wno-everything", *ANALYZER, *flags]
        marker = os.path.join(cache, hasher.key(path, [version, *command]))
        if not os.path.exists(marker):
            todo.append((path, command, marker))
    faults = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = {pool.submit(run, path, command): marker for path, command, marker in todo}
        for job in concurrent.futures.as_completed(pending):
            path, status, text = job.result()
            if status == 0 and "warning:" not in text:
                with open(pending[job], "w", encoding="utf-8"):
                    pass
                continue
            faults += 1
            print(text.replace(ROOT + "/", "").strip() or f"{path}: clang-tidy failed ({status})", flush=True)
    print(f"clang-tidy: {len(jobs)} files, {len(jobs) - len(todo)} unchanged, {faults} with faults")
    return 1 if faults or not jobs else 0


if __name__ == "__main__":
    sys.exit(main())
