#!/usr/bin/env bash
# README.md's five minutes, typed line by line as they stand there, do what they say.
#
# usage: readme.sh README BUILD-FOLDER
# They use the default ports: where the kernel lets us, in a network of our own. Prints all output when something is wrong.
set -euo pipefail

if [ -z "${ESCROW_README_TEST:-}" ]; then
    export ESCROW_README_TEST=here
    for own in "--net" "--net --user --map-root-user"; do
        # shellcheck disable=SC2086 # several options
        if unshare $own true 2>/dev/null; then
            ESCROW_README_TEST=apart exec unshare $own -- "$0" "$@"
        fi
    done
fi
if [ "$ESCROW_README_TEST" = apart ]; then
    # SIOCSIFFLAGS: lo, up and running
    python3 -c 'import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 0x41))'
fi

readme=$1
build=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/escrow-readme.XXXXXX")
clean_up() {
    local status=$? pid
    trap '' INT TERM HUP
    for pid in $(jobs -pr); do
        kill -KILL "$pid" 2>/dev/null || :
        wait "$pid" 2>/dev/null || :
    done
    [ "$status" -eq 0 ] || cat "$work/out" >&2 || :
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
fail() {
    printf 'readme.sh: %s\n' "$*" >&2
    exit 1
}

exec {never}<> <(:)
pause() { read -rt 0.05 -u "$never" || :; }
wait_for() { # TEXT: in what was printed so far
    for ((i = 0; i < 600; i++)); do
        ! grep -q -- "$1" "$work/out" || return 0
        pause
    done
    fail "nothing printed '$1'"
}
# printed COUNT PATTERN: by the last line typed
printed() { [ "$(grep -Ec -- "$2" "$work/last")" -eq "$1" ] || fail "'$line': expected $1 x /$2/ in: $(cat "$work/last")"; }

cd "$work"
mkdir build-release
ln -s "$build/src" "$build/examples" build-release/
sed -n '/^<!-- typed by/,/^```$/{/^build\|^kill/p}' "$readme" >lines
[ "$(wc -l <lines)" -eq 8 ] || fail "expected 8 lines to type: $(cat lines)"
: >out
number=0
while read -r line; do
    number=$((number + 1))
    printf '$ %s\n' "$line" >>out
    status=0
    if [ "$number" -eq 1 ]; then
        eval "$line" >>out 2>&1 </dev/null
        wait_for 'is ready'
        continue
    fi
    eval "$line" >last 2>&1 </dev/null || status=$?
    cat last >>out
    case $number in
    4) [ "$status" -eq 3 ] || fail "'$line': status $status, not 3: it should have died" ;;
    *) [ "$status" -eq 0 ] || fail "'$line': status $status: $(cat last)" ;;
    esac
    case $number in
    2) printed 3 '^[0-9A-F]{32} queue [0-9]+ offset [0-9]+$' ;;
    3) printed 3 '^[0-9A-F]{32} hello [0-2] ' ;;
    5) printed 1 ' example-transactions +orders +PREPARED ' ;;
    6) printed 1 '^checked back: [0-9A-F]{32}: committed$' ;;
    7) printed 1 '^[0-9A-F]{32} build-release/order ' ;;
    esac
done <lines
wait # for escrowd
[ "$(ls build-release)" = "$(printf 'examples\nsrc')" ] || fail "left behind: $(ls build-release)"
