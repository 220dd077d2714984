#!/usr/bin/env bash
# The Python client, which is the C++ client inside: prepare | list | run CASE... ; run.sh sets INTEROP_WORK, INTEROP_NAMESRV, INTEROP_BROKER.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
case $1 in
prepare)
    mkdir -p "$INTEROP_WORK/home"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --target "$INTEROP_WORK/packages" -r "$here/requirements.txt"
    ;;
list) exec python3 "$here/main.py" list ;;
run) # it writes logs there
    shift && HOME=$INTEROP_WORK/home PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$INTEROP_WORK/packages exec python3 "$here/main.py" run \
        "$INTEROP_NAMESRV" "$INTEROP_BROKER" "$@"
    ;;
esac
