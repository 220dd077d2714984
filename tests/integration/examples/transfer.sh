#!/usr/bin/env bash
# The money transfer, smaller: examples/run.sh ends with books that balance, and says that check-backs of both ways helped; on
# the way no line of progress shows more credited than committed, or more committed than decided.
#
# usage: transfer.sh BUILD-FOLDER
set -euo pipefail
cd "$(dirname "$0")/../../.."

ESCROW_PROGRAMS=$1 ESCROW_TRANSFERS=600 ESCROW_KILLS=12 examples/run.sh | awk '
    { print; fflush() }
    / transfers decided, / {
        lines++
        if ($10 + 0 > $8 + 0 || $8 + 0 > $3 + 0) bad = $0
    }
    END {
        if (lines == 0 || bad != "") { print "progress: " (bad == "" ? "no line" : "impossible: " bad); exit 1 }
    }'
