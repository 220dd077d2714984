# Finds and ends what a script started, however far it came and whatever became of the parents: everything inherits a mark in
# its environment. Sourced.
#
#   export MARK=VALUE            the script marks itself: a name of its own, a value that no other run has
#   marked MARK VALUE            prints the ids of the processes that carry it
#   end_marked MARK VALUE        SIGINT, a few seconds, SIGKILL
# shellcheck shell=bash

marked() (
    unset "$1" # these helpers are not meant
    grep -lzxF "$1=$2" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 || true
)

# SIGINT first: it is also PostgreSQL's fast shutdown.
end_marked() {
    local pid pids
    pids=$(marked "$1" "$2")
    for pid in $pids; do
        kill -INT "$pid" 2>/dev/null || true
    done
    for pid in $pids; do
        timeout 5 tail -s 0.1 --pid="$pid" -f /dev/null || true
    done
    for pid in $(marked "$1" "$2"); do
        kill -KILL "$pid" 2>/dev/null || true
    done
}
