#!/usr/bin/env bash
# Build with AddressSanitizer and UBSan, and run every test.
#
# usage: tests/run.sh [CTEST OPTION...]
#   tests/run.sh                     everything
#   tests/run.sh -L unit             the fast ones only
#   tests/run.sh -R core/store       those whose name matches
# Environment:
#   ESCROW_BUILD_DIR   build folder                     (build-asan)
#   ESCROW_SANITIZE    sanitizers; empty for none       (address,undefined)
#   ESCROW_BUILD_TYPE  Debug, Release, ...              (Debug)
#   ESCROW_JOBS        tests and compilers at a time    (number of processors)
#   ESCROW_TRIES       how often a test may run until it passes   (1)
# Tests find in ESCROW_TEST_PG the connection string of a private PostgreSQL, whose superuser they are.
#
# Works on a fresh Debian 12, as root or as a user with sudo: packages that are missing are installed first. A test whose
# needs are missing fails. Nothing is left behind, also after an interrupt: no process, and no file outside the build
# folder. Exit status 0 only if every test passed and none left a process behind.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${ESCROW_BUILD_DIR:-build-asan}
sanitize=${ESCROW_SANITIZE-address,undefined}
jobs=${ESCROW_JOBS:-$(nproc)}
tries=${ESCROW_TRIES:-1}
run_id=$$.$(date +%s)
child=
scratch=

# shellcheck source=tests/lib/processes.sh
. tests/lib/processes.sh
left_behind() { marked ESCROW_TEST_RUN "$run_id"; }

# Runs a command in a process group of its own, so that all of it can be ended at once.
run() {
    local status=0
    set -m
    "$@" </dev/null &
    child=$!
    set +m
    wait "$child" || status=$?
    child=
    return "$status"
}

finish() {
    local status=$? interrupted=$child pid
    trap '' INT TERM HUP
    if [ -n "$interrupted" ]; then
        echo "tests/run.sh: interrupted" >&2
        kill -TERM -- "-$interrupted" 2>/dev/null || true
        wait "$interrupted" 2>/dev/null || true
    fi
    if [ -n "$scratch" ] && [ -d "$scratch/pg" ]; then
        tests/lib/postgres.sh kill "$scratch/pg" || true
    fi
    if [ -z "$interrupted" ] && [ -n "$(left_behind)" ]; then
        echo "tests/run.sh: a test left these processes behind:" >&2
        for pid in $(left_behind); do
            ps -o pid=,user=,args= -p "$pid" >&2 || true
        done
        [ "$status" -ne 0 ] || status=1
    fi
    end_marked ESCROW_TEST_RUN "$run_id"
    [ -z "$scratch" ] || rm -rf "$scratch"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

tests/lib/install_packages.sh build test

# Temporary files of tests. Readable for all: PostgreSQL runs as another user when this is root.
scratch=$(mktemp -d /tmp/escrow-tests.XXXXXX)
chmod 755 "$scratch"
export TMPDIR=$scratch ESCROW_TEST_RUN=$run_id

generator=()
[ -f "$build/CMakeCache.txt" ] || generator=(-G Ninja)
quiet=()
[ -t 1 ] || quiet=(-- --quiet)
echo "configuring $build (sanitizers: ${sanitize:-none})"
run cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE="${ESCROW_BUILD_TYPE:-Debug}" -DESCROW_SANITIZE="$sanitize" >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    exit 1
}
echo "building"
run cmake --build "$build" -j "$jobs" "${quiet[@]}"
echo "starting a private PostgreSQL"
ESCROW_TEST_PG=$(tests/lib/postgres.sh start "$scratch/pg" fsync=off)
export ESCROW_TEST_PG
echo "testing"
run ctest --test-dir "$build" -j "$jobs" --output-on-failure --no-tests=error --repeat "until-pass:$tries" "$@"
