# Shared by run.sh and the clients' scripts. Sourced; needs nothing.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }

# Wait a little without a process: a read that nobody answers.
exec {never}<> <(:)
pause() { read -rt "$1" -u "$never" || :; }

# until_true SECONDS COMMAND...: try until it succeeds.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        pause 0.05
    done
}

is_gone() { ! kill -0 "$1"; }

# End a process of ours, and wait until it is gone.
end() { # PID or -GROUP
    kill -TERM -- "$1" 2>/dev/null || :
    until_true 15 is_gone "$1" || kill -KILL -- "$1" 2>/dev/null || :
    wait "${1#-}" 2>/dev/null || :
}

# A command in a process group of its own, so that all of it can be ended at once; `group` is its number while it runs.
group=
run_group() {
    local status=0
    set -m
    "$@" </dev/null &
    group=$!
    set +m
    wait "$group" || status=$?
    kill -KILL -- "-$group" 2>/dev/null || : # what it left behind
    group=
    return "$status"
}

# Is a client, or a case of it, among the names in `only` (CLIENT or CLIENT/CASE; none: all are)?
is_wanted() { # NAME [CASE]
    local one
    # shellcheck disable=SC2154 # the script's own
    [ ${#only[@]} -gt 0 ] || return 0
    for one in "${only[@]}"; do
        case $one in
        "$1" | "$1/${2:-}") return 0 ;;
        "$1"/*) [ $# -gt 1 ] || return 0 ;;
        esac
    done
    return 1
}
