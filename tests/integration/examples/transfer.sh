#!/usr/bin/env bash
# The money transfer, smaller: examples/run.sh ends with books that balance, and says that check-backs of both ways helped; on
# the way no line of progress shows more credited than committed, or more committed than decided. The name of the temporary folder
# has in it what a shell or a connection string could stumble over.
#
# usage: transfer.sh BUILD-FOLDER
set -euo pipefail
cd "$(dirname "$0")/../../.."
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/it's \"a\" \$b \\ XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 1' INT TERM
chmod 755 "$TMPDIR" # the user postgres must get through

ESCROW_PROGRAMS=$1 ESCROW_TRANSFERS=600 ESCROW_KILLS=12 examples/run.sh | awk '
    { print; fflush() }
    / transfers decided, / {
        lines++
        if ($10 + 0 > $8 + 0 || $8 + 0 > $3 + 0) bad = $0
    }
    END {
        if (lines == 0 || bad != "") { print "progress: " (bad == "" ? "no line" : "impossible: " bad); exit 1 }
    }'
