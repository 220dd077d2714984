#!/usr/bin/env python3
"""examples/run.sh, interrupted at any stage, by one signal or by many: it leaves no process and no file behind.

usage: interrupt.py SOURCE-FOLDER BUILD-FOLDER
"""
import contextlib
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

MARK = "ESCROW_INTERRUPT_TEST"
LIMIT_S = 60
STAGES = [  # what is there when the signals come
    ("", signal.SIGHUP),
    ("/pg/data", signal.SIGINT),
    ("/pg/data/postmaster.pid", signal.SIGTERM),
    ("/escrowd.log", signal.SIGINT),
    ("/payment.log", signal.SIGHUP),
    ("/order.log", signal.SIGTERM),
]
never = threading.Event()


def wait_for(what, condition):
    end = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {LIMIT_S} s for {what}")
        never.wait(0.01)


def marked(value):
    """Command lines of the processes whose environment has the mark."""
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as f:
                if f"{MARK}={value}".encode() in f.read().split(b"\0"):
                    with open(path.replace("environ", "cmdline"), "rb") as c:
                        found.append((int(path.split("/")[2]), c.read().replace(b"\0", b" ").decode()))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
    return found


def default_signals():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def interrupt(source, build, work, stage, number):
    value = f"{os.getpid()}.{stage}.{number}"
    env = dict(os.environ, TMPDIR=work, ESCROW_PROGRAMS=build)
    env[MARK] = value
    with open(f"{work}.out", "w", encoding="utf-8") as out:
        run = subprocess.Popen([f"{source}/examples/run.sh"], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                               start_new_session=True, preexec_fn=default_signals)
    try:
        wait_for(f"{stage or 'the folder'}", lambda: glob.glob(f"{work}/escrow-transfer.*{stage}") or run.poll() is not None)

        def send_again():
            if run.poll() is None:
                os.killpg(run.pid, number)  # as a terminal does: everything in the foreground gets it
            return run.poll() is not None

        wait_for("run.sh to end", send_again)
        assert run.returncode == 128 + number, f"exit status {run.returncode}"
        assert not marked(value), f"left behind: {marked(value)}"
        # ThreadSanitizer's own, of a program that was killed while it started.
        left = [name for name in os.listdir(work) if not name.startswith("tsan.rodata.")]
        assert not left, f"left behind: {left}"
    finally:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGTERM)
                run.wait(10)
        for pid, _ in marked(value):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def main():
    source, build = sys.argv[1:3]
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as by a time limit: what was started ends first
    for stage, number in STAGES:
        work = tempfile.mkdtemp(prefix="escrow-interrupt.")
        os.chmod(work, 0o755)  # the user postgres must get through
        try:
            interrupt(source, build, work, stage, number)
        except AssertionError as e:
            failed += 1
            print(f"FAILED: {number.name} at '{stage}': {e}")
            with open(f"{work}.out", encoding="utf-8") as out:
                print(out.read())
        finally:
            shutil.rmtree(work, ignore_errors=True)
            os.unlink(f"{work}.out")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
