# Shared by the benchmarks: servers on loopback with free ports and folders of their own, ended by their ids; medians; the table.
# Sourced by run.sh, which has set root, work, build and seconds.
# shellcheck shell=bash disable=SC2154,SC2034

table=$work/table.md
mkdir -p "$work/pids" # one file per server of ours: subshells start servers too

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
        pause 0.02
    done
}

track() { : >"$work/pids/$1"; }
is_gone() { ! kill -0 "$1"; }

# End a server that we started, and wait until it is gone.
end() { # pid [signal]
    kill -"${2:-TERM}" "$1" 2>/dev/null || :
    wait "$1" 2>/dev/null || :
    until_true 10 is_gone "$1" || kill -KILL "$1" 2>/dev/null || :
    rm -f "$work/pids/$1"
}

end_all() {
    local file
    trap '' INT TERM HUP
    for file in "$work"/pids/*; do
        [ ! -e "$file" ] || end "${file##*/}" KILL
    done
    [ -z "${pg_folder:-}" ] || "$root/tests/lib/postgres.sh" kill "$pg_folder" 2>/dev/null || :
    rm -rf "$work"
}

is_open() { (exec {fd}<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
    local port
    for ((i = 0; i < 100; i++)); do
        port=$((10240 + RANDOM % 22000)) # below those that the kernel gives to clients
        if ! is_open "$port"; then
            echo "$port"
            return
        fi
    done
    say "bench: no free port"
    return 1
}

# start_escrowd FOLDER [OPTION...]: sets escrowd_pid, broker, namesrv. A folder that is there is taken up again.
start_escrowd() {
    local folder=$1
    shift
    local port=${broker_port:-$(free_port)} ns=${ns_port:-$(free_port)}
    rm -f "$work/escrowd.log" # or the last one's "ready" would be taken for this one's
    "$build/src/broker/escrowd" --data.dir "$folder" --broker.port "$port" --broker.vip.port 0 --namesrv.port "$ns" "$@" \
        >"$work/escrowd.log" 2>&1 &
    escrowd_pid=$!
    track "$escrowd_pid"
    broker=127.0.0.1:$port
    namesrv=127.0.0.1:$ns
    until_true 30 grep -q ' ready ' "$work/escrowd.log" || {
        tail -n 5 "$work/escrowd.log" >&2
        return 1
    }
}
stop_escrowd() { # FOLDER
    end "$escrowd_pid"
    rm -rf "$1"
}

start_redis() { # FOLDER: sets redis_pid, redis_port
    mkdir -p "$1"
    redis_port=$(free_port)
    redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$1" --appendonly yes --appendfsync always --save '' \
        --auto-aof-rewrite-percentage 0 --daemonize no >"$work/redis.log" 2>&1 &
    redis_pid=$!
    track "$redis_pid"
    until_true 10 redis-cli -p "$redis_port" ping
}

start_beanstalkd() { # FOLDER: sets beanstalkd_pid, beanstalkd_port
    mkdir -p "$1"
    beanstalkd_port=$(free_port)
    beanstalkd -l 127.0.0.1 -p "$beanstalkd_port" -b "$1" -f 0 >"$work/beanstalkd.log" 2>&1 &
    beanstalkd_pid=$!
    track "$beanstalkd_pid"
    until_true 10 is_open "$beanstalkd_port"
}

# bench_rate ARGUMENT...: escrow bench, its rate.
bench_rate() { "$build/src/tools/escrow" bench "$@" --quiet --json | jq -r .rate; }

rss_kb() { awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"; }

median() { printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
divide() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", (b > 0 ? a / b : 0) }'; }
whole() { awk -v a="$1" 'BEGIN { printf "%.0f", a }'; }

failures=0

# row FIGURE "AT LEAST"|"AT MOST" BOUND UNIT MEASURED DETAIL
row() {
    local verdict
    if [ "$3" = - ]; then # for comparison
        printf '| %s | | %s %s | | %s |\n' "$1" "$5" "$4" "$6" >>"$table"
        say "  $1: $5 $4"
        return
    fi
    verdict=$(awk -v m="$5" -v b="$3" -v k="$2" 'BEGIN { print ((k == "at least" ? m >= b : m <= b) ? "pass" : "**fail**") }')
    [ "$verdict" = pass ] || failures=$((failures + 1))
    printf '| %s | %s %s %s | %s %s | %s | %s |\n' "$1" "$2" "$3" "$4" "$5" "$4" "$verdict" "$6" >>"$table"
    say "  $1: $5 $4 ($2 $3): $verdict"
}
row_missing() { # FIGURE BOUND WHY
    failures=$((failures + 1))
    printf '| %s | %s | not measured | **fail** | %s |\n' "$1" "$2" "$3" >>"$table"
    say "  $1: not measured: $3"
}

# compare FIGURE BOUND ONE OTHER NAME: functions ONE and OTHER print a rate each; in turn, `rounds` times; median of the ratios.
compare() {
    local ratios=() ones=() others=() a b
    say "$1"
    for ((round = 1; round <= rounds; round++)); do
        if ((round % 2)); then
            a=$("$3") b=$("$4")
        else
            b=$("$4") a=$("$3")
        fi
        if [ -z "$a" ] || [ -z "$b" ]; then
            row_missing "$1" "at least $2 x" "round $round: no rate"
            return
        fi
        ones+=("$a") others+=("$b") ratios+=("$(divide "$a" "$b")")
        say "  round $round: $(whole "$a") against $(whole "$b"): ${ratios[-1]}"
    done
    row "$1" "at least" "$2" x "$(median "${ratios[@]}")" \
        "$(whole "$(median "${ones[@]}")")/s against $(whole "$(median "${others[@]}")")/s $5; ratios ${ratios[*]}"
}
