#!/usr/bin/env bash
# A money transfer too small for a check-back by service A: its first transfers are not of that path. The books balance, so
# examples/run.sh does not say the contrary; it says what it did not show, and fails.
#
# usage: shown.sh BUILD-FOLDER
set -euo pipefail
cd "$(dirname "$0")/../../.."

fail() {
    printf '%s\nshown.sh: %s\n' "$said" "$*" >&2
    exit 1
}
status=0
said=$(ESCROW_PROGRAMS=$1 ESCROW_TRANSFERS=1 ESCROW_KILLS=1 examples/run.sh 2>&1) || status=$?
[ "$status" -eq 1 ] || fail "exit status $status"
grep -qx "the books balance" <<<"$said" || fail "does not say that the books balance"
! grep -q "DO NOT BALANCE" <<<"$said" || fail "says that the books do not balance"
tail -n 1 <<<"$said" | grep -q "did not show everything: 0 decided by service A's check-back" || fail "does not say what is missing"
