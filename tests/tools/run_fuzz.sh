#!/usr/bin/env bash
# Run each fuzz target for a while, starting from its corpus. New inputs stay in the build folder.
# usage: [FUZZ_SEED=N] run_fuzz.sh BUILD_FOLDER SECONDS TARGET...
# FUZZ_SEED is 1 if not given, so that a run that is part of the checks tries the same things each time, and does not
# fail by chance for who changed something else; 0 is another one each time, for a long search.
# Two run at a time. A finding is kept in BUILD_FOLDER/fuzz/<target>/, told last (who
# sees only the end of a log finds it there, the input with it), and makes the script end with status 1.
set -euo pipefail
build=$1
seconds=$2
shift 2
root=$(cd "$(dirname "$0")/../.." && pwd)

run_one() {
    local target=$1 name=${1#fuzz_} folder=$build/fuzz/$1 log
    log=$folder/log
    mkdir -p "$folder/found"
    rm -f "$folder"/{finding,crash-*,oom-*,timeout-*,leak-*}
    if "$build/tests/fuzz/$target" "$folder/found" "$root/tests/fuzz/corpus/$name" -max_total_time="$seconds" -seed="${FUZZ_SEED:-1}" \
        -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$folder/" >"$log" 2>&1; then
        printf '  %-28s %s runs\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
        return 0
    fi
    tail -n 40 "$log"
    {
        echo "$target found something. To see it again:"
        for input in "$folder"/{crash,oom,timeout,leak}-*; do
            [ -e "$input" ] || continue
            printf '  %s/tests/fuzz/%s %s\n' "$build" "$target" "$input"
            if [ "$(stat -c %s "$input")" -le 4096 ]; then
                printf '  base64: %s\n' "$(base64 -w 0 "$input")"
            fi
        done
        echo "Once it is mended, keep the input: cp it to tests/fuzz/corpus/$name/bug_<number>_<what>"
    } >"$folder/finding"
    return 1
}

[ $# -gt 0 ] || {
    echo "run_fuzz.sh: no fuzz targets" >&2
    exit 1
}
status=0
targets=("$@")
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
for target in "${targets[@]}"; do
    if [ -e "$build/fuzz/$target/finding" ]; then
        cat "$build/fuzz/$target/finding"
    fi
done
exit "$status"
