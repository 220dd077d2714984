# What tests of the `escrow` command share: escrowds on free ports of loopback, checks that are counted, certificates. Sourced, with
# $escrow and $escrowd set; makes $work, a folder that is removed in the end, when also everything in pids is ended.
#
#   start_escrowd NAME OPTION...   a broker whose data is $work/NAME and whose log is $work/NAME.log; sets broker and namesrv, their
#                                  addresses (namesrv is empty unless it has one: --namesrv.port 0), and pids[NAME]
#   listen NAME COMMAND...         runs another server, pids[NAME]; $at is the address, the first line that it prints
#   end NAME SIGNAL                ends it, or another that pids names
#   expect STATUS COMMAND...       runs escrow COMMAND...; its output is in $out and $err, and in $work/out and $work/err
#   has TEXT PATTERN, has_not      the text matches the extended regular expression, or does not
#   is TEXT TEXT                   they are equal
#   fault WORDS...                 a check that failed
#   pause                          a little, without a process
#   authority, certificate NAME SUBJECT-ALTERNATIVE-NAME
#                                  $work/ca.pem; $work/NAME.pem and $work/NAME.key of it
#   report                         the last line of a test: exit status 1 if a check failed
# shellcheck shell=bash

work=$(mktemp -d "${TMPDIR:-/tmp}/escrow-cli.XXXXXX")
declare -A pids=()
failed=0
checks=0

clean_up() {
    [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || :
    wait 2>/dev/null || :
    [ "$failed" -eq 0 ] || tail -n 200 "$work"/*.log >&2 || :
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

exec {never}<> <(:)
pause() { read -rt 0.05 -u "$never" || :; }

start_escrowd() {
    local name=$1 log=$work/$1.log
    shift
    rm -f "$log"
    # shellcheck disable=SC2154
    "$escrowd" --data.dir "$work/$name" --broker.port 0 --broker.vip.port 0 --log.segment.bytes 64m --disk.warning.ratio 100 "$@" \
        >"$log" 2>&1 &
    pids[$name]=$!
    for ((i = 0; i < 1200; i++)); do
        ! grep -q ' ready ' "$log" 2>/dev/null || break
        kill -0 "${pids[$name]}" || break
        pause
    done
    # shellcheck disable=SC2034
    namesrv=$(sed -n 's/.*name server listens on //p' "$log")
    # shellcheck disable=SC2034
    broker=$(sed -n 's/.*broker listens on //p' "$log")
}
listen() {
    local name=$1
    shift
    : >"$work/$name.at"
    "$@" >>"$work/$name.at" 2>"$work/$name.log" &
    pids[$name]=$!
    for ((i = 0; i < 1200; i++)); do
        [ ! -s "$work/$name.at" ] || break
        pause
    done
    # shellcheck disable=SC2034
    at=$(head -n 1 "$work/$name.at")
}
end() {
    kill "-$2" "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null || [ "$2" = KILL ] || fault "$1 did not stop cleanly"
    unset "pids[$1]"
}

fault() {
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$*" >&2
}
expect() {
    local want=$1 status=0
    shift
    checks=$((checks + 1))
    # shellcheck disable=SC2154
    "$escrow" "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    out=$(cat "$work/out")
    err=$(cat "$work/err")
    [ "$status" -eq "$want" ] || fault "escrow $*: status $status, expected $want: $out $err"
}
has() {
    checks=$((checks + 1))
    grep -Eq -- "$2" <<<"$1" || fault "expected /$2/ in: $1"
}
has_not() {
    checks=$((checks + 1))
    ! grep -Eq -- "$2" <<<"$1" || fault "did not expect /$2/ in: $1"
}
is() {
    checks=$((checks + 1))
    [ "$1" = "$2" ] || fault "expected '$2', got '$1'"
}

made() { openssl "$@" >/dev/null 2>"$work/openssl.log" || fault "openssl $*: $(cat "$work/openssl.log")"; }
authority() {
    made req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=tests -days 2 -keyout "$work/ca.key" -out "$work/ca.pem"
}
certificate() {
    made req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$work/$1.key" -out "$work/$1.csr"
    printf 'subjectAltName = %s\n' "$2" >"$work/$1.ext"
    made x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -days 2 -extfile "$work/$1.ext" -out "$work/$1.pem"
    chmod 600 "$work/$1.key"
}

report() {
    if [ "$failed" -gt 0 ]; then
        echo "$failed of $checks checks failed" >&2
        exit 1
    fi
    echo "$checks checks passed"
}
