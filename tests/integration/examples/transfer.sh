#!/usr/bin/env bash
# The money transfer, smaller: examples/run.sh ends with books that balance, and says that check-backs of both ways helped.
#
# usage: transfer.sh BUILD-FOLDER
set -euo pipefail
cd "$(dirname "$0")/../../.."

ESCROW_PROGRAMS=$1 ESCROW_TRANSFERS=600 ESCROW_KILLS=12 examples/run.sh
