#!/usr/bin/env bash
# Run each fuzz target for a while, starting from its corpus. New inputs stay in the build folder.
# usage: run_fuzz.sh BUILD_FOLDER SECONDS TARGET...
# Two run at a time. A finding is kept in BUILD_FOLDER/fuzz/<target>/ and ends the script with status 1.
set -euo pipefail
build=$1
seconds=$2
shift 2
root=$(cd "$(dirname "$0")/../.." && pwd)

run_one() {
    local target=$1 name=${1#fuzz_} folder=$build/fuzz/$1 log
    log=$folder/log
    mkdir -p "$folder/found"
    if "$build/tests/fuzz/$target" "$folder/found" "$root/tests/fuzz/corpus/$name" -max_total_time="$seconds" \
        -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$folder/" >"$log" 2>&1; then
        printf '  %-28s %s runs\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
        return 0
    fi
    tail -n 40 "$log"
    cat <<TEXT
$target found something. To see it again:
  $build/tests/fuzz/$target $folder/crash-... (or oom-, timeout-, leak-)
Once it is mended, keep the input: cp it to tests/fuzz/corpus/$name/bug_<number>_<what>
TEXT
    return 1
}

[ $# -gt 0 ] || {
    echo "run_fuzz.sh: no fuzz targets" >&2
    exit 1
}
status=0
while [ $# -gt 0 ]; do
    run_one "$1" &
    first=$!
    shift
    if [ $# -gt 0 ]; then
        run_one "$1" || status=1
        shift
    fi
    wait "$first" || status=1
done
exit "$status"
