#!/usr/bin/env bash
# Run one test for ctest, and when it fails say how to run it alone.
# usage: run_test.sh NAME PROGRAM [ARGUMENT...]
# The address space is laid out the same way each time where the kernel allows it: the sanitizers of Debian 12 need that
# on kernels that randomize more bits than they know.
name=$1
shift
export CK_DEFAULT_TIMEOUT=30 CK_TIMEOUT_MULTIPLIER=4 # a limit for what hangs: a slow machine with a sanitizer decides no test
export ESCROW_TIMEOUT=60s # the same for requests of the command line
ulimit -S -n 16384 2>/dev/null # some tests hold both ends of a thousand connections
if setarch -R true 2>/dev/null; then
    setarch -R "$@"
else
    "$@"
fi
status=$?
[ "$status" -eq 0 ] && exit 0

build=${ESCROW_TEST_BUILD:-build}
cat <<TEXT

$name failed (exit status $status). To run it again, alone:
  ctest --test-dir $build -R '^$name\$' --output-on-failure
TEXT
case ${1##*/} in
test_*)
    cat <<TEXT
One test case of it (the names stand in the output above as FILE:LINE:kind:CASE:TEST:), or in a debugger:
  CK_RUN_CASE=CASE $1
  CK_FORK=no CK_RUN_CASE=CASE gdb -ex run $1
TEXT
    ;;
esac
exit "$status"
