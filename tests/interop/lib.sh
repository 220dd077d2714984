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
