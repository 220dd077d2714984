#!/usr/bin/env bash
# One client of tests/interop: fetch and build it, start a server for it, run its cases. run.sh starts this, several at a time.
#
# usage: run_client.sh NAME FOLDER [WANTED...]
#   FOLDER  of the run; FOLDER/NAME is made for this client: its logs, and `results`, a line for each case
#   WANTED  as --only of run.sh; without any, all cases
# Environment: INTEROP_BUILD: folder with a built escrowd; without it the cases are listed in `wanted` and not run.
# Leaves no process behind, also when interrupted. Exit status: 0 `results` is whole, whatever stands in it.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/tests/interop
client_seconds=1500 # one client's cases together; a case has a limit of its own, which its program keeps
again_max=5

name=$1
folder=$2
work=$folder/$name
shift 2
only=("$@")
# shellcheck source=tests/interop/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/interop/servers.sh
. "$here/servers.sh"

finish() {
    local status=$? one
    trap '' INT TERM HUP
    [ -z "$group" ] || end "-$group"
    for one in "${servers[@]}"; do
        end "$one"
    done
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The cases that were asked for.
wanted_cases() { # ALL...
    local case_
    for case_; do
        case $name/$case_ in *-tls/tls*) continue ;; esac # its cases are inside TLS, all of them
        if is_wanted "$name" "$case_"; then
            echo "$case_"
        fi
    done
}

# Apache RocketMQ's servers are fetched once for all.
fetch_servers() {
    if [ "${name%-rocketmq}" != "$name" ] && [ -n "$INTEROP_BUILD" ] && [ ! -d "$folder/rocketmq" ]; then
        run_group mvn -q -B -f "$here/rocketmq/pom.xml" -Dlibraries="$folder/rocketmq" dependency:copy-dependencies
    fi
}

# Maven's repository takes one writer at a time, and a compiler on every processor does nobody good.
prepare() {
    exec 8>"$folder/prepare.lock"
    flock 8
    { run_group "$here/${name%%-*}/client.sh" prepare && fetch_servers; } >"$work/prepare.log" 2>&1 8>&- || {
        tail -n 20 "$work/prepare.log" >&2
        return 1
    }
    exec 8>&-
}

# The program, for these cases; what it prints goes to a file.
run_cases() { # FILE CASE...
    local file=$1
    shift
    run_group timeout -k 5 "$client_seconds" "$here/${name%%-*}/client.sh" run "$@" >"$file" 2>&1 || :
}

# A case without a line of its own has failed.
collect() { # CASE...
    local line case_
    for case_; do
        line=$(grep -aE -m1 "^(ok|FAIL) $case_(:|\$)" "$work/output.log" || echo "FAIL $case_: no result")
        printf '%s\n' "${line:0:500}"
    done
}

judge() {
    collect "${cases[@]}" | "$here/compare.py" known "$name" "$work/output.log" >"$work/lines"
}

# A few cases that failed run once more: clients have races of their own. What they print then counts, and `again CASE: why` says so.
run_again() {
    local case_ failed
    mapfile -t failed < <(sed -n 's/^FAIL \([^:]*\).*/\1/p' "$work/lines")
    if [ ${#failed[@]} -eq 0 ] || [ ${#failed[@]} -gt "$again_max" ]; then
        return
    fi
    sed -n 's/^FAIL /again /p' "$work/lines" >"$work/again"
    run_cases "$work/again.log" "${failed[@]}"
    for case_ in "${failed[@]}"; do
        grep -avE "^(ok|FAIL|note) $case_([: ]|\$)" "$work/output.log" >"$work/rest" || :
        mv "$work/rest" "$work/output.log"
    done
    cat "$work/again.log" >>"$work/output.log"
    judge
    cat "$work/again" >>"$work/lines"
}

mkdir "$work"
export INTEROP_CLIENT=${name%-rocketmq} INTEROP_WORK=$work INTEROP_BUILD=${INTEROP_BUILD:-}
prepare || {
    echo "FAIL prepare: the client could not be fetched or built" >"$work/results"
    exit 0
}
mapfile -t cases < <("$here/${name%%-*}/client.sh" list)
mapfile -t cases < <(wanted_cases "${cases[@]}")
if [ ${#cases[@]} -eq 0 ]; then
    echo "FAIL list: no such case" >"$work/results"
    exit 0
fi
printf '%s\n' "${cases[@]}" >"$work/wanted"
[ -n "$INTEROP_BUILD" ] || exit 0
start_server "${cases[@]}" || {
    echo "FAIL server: does not start" >"$work/results"
    exit 0
}
run_cases "$work/output.log" "${cases[@]}"
judge
run_again
stop_server >>"$work/lines"
mv "$work/lines" "$work/results"
