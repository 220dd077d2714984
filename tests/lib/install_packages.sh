#!/usr/bin/env bash
# Install the Debian packages that a purpose needs and that are missing. This is the only list of packages.
#
# usage: tests/lib/install_packages.sh [--list] PURPOSE...
#   build   compile everything: escrowd, escrow, escrow-relay, libescrow
#   test    run every test and example: Check, a private PostgreSQL
#   check   format, lint and static analysis, clang builds, fuzzing
#   bench   the brokers that the benchmarks compare with
#   interop what fetches and runs RocketMQ's clients; a tool that is there already, from wherever, is not installed again
#   --list  print the packages and change nothing
#
# Runs as root, or as a user with sudo. Says nothing and touches nothing when all are there. Services that come with a
# package are not started, and no PostgreSQL cluster is created: the tests make their own, in a temporary folder.
# Exit status: 0 all there; 1 could not install; 2 wrong usage.
set -euo pipefail

# A package for a command that is missing.
for_command() { # COMMAND PACKAGE
    command -v "$1" >/dev/null || echo "$2"
}

packages_of() {
    case $1 in
    build)
        echo gcc libc6-dev cmake ninja-build pkg-config libuv1-dev libpq-dev libmsgpack-dev libjansson-dev \
            libcurl4-openssl-dev libmicrohttpd-dev libssl-dev zlib1g-dev libdeflate-dev liblz4-dev libzstd-dev libinih-dev
        ;;
    test) echo check g++ openssl postgresql-15 postgresql-client-15 python3 procps util-linux curl systemd ;;
    check) echo clang clang-tidy clang-format libclang-rt-14-dev cppcheck shellcheck binutils python3 ;;
    bench) echo redis-server redis-tools beanstalkd postgresql-15 postgresql-client-15 postgresql-contrib jq ;;
    interop)
        echo openssl procps python3 util-linux
        for_command javac openjdk-17-jdk-headless
        for_command mvn maven
        for_command go golang-go
        for_command node nodejs
        for_command npm npm
        python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
        ;;
    *)
        echo "install_packages.sh: unknown purpose '$1' (build, test, check, bench, interop)" >&2
        exit 2
        ;;
    esac
}

fail() {
    echo "install_packages.sh: $*" >&2
    echo "install_packages.sh: install by hand: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
}

# Runs a command as root: directly, or through sudo (which asks for a password only at a terminal).
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# While packages are installed: no service starts (policy-rc.d), no PostgreSQL cluster is made. Only what was put there
# here is taken away again.
guards=()
put_guard() { # path mode text
    [ -e "$1" ] && return
    guards+=("$1")
    as_root mkdir -p "$(dirname "$1")"
    printf '%s\n' "$3" | as_root tee "$1" >/dev/null
    as_root chmod "$2" "$1"
}
drop_guards() {
    [ ${#guards[@]} -eq 0 ] || as_root rm -f "${guards[@]}"
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        install --no-install-recommends "${missing[@]}"
}

list_only=no
if [ "${1:-}" = --list ]; then
    list_only=yes
    shift
fi
if [ $# -eq 0 ]; then
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi

wanted=()
for purpose in "$@"; do
    names=$(packages_of "$purpose")
    read -d '' -ra more <<<"$names" || : # there may be several lines
    wanted+=("${more[@]}")
done
if [ "$list_only" = yes ]; then
    printf '%s\n' "${wanted[@]}" | sort -u
    exit 0
fi

missing=()
command -v dpkg-query >/dev/null || { missing=("${wanted[@]}") && fail "this is not a Debian system"; }
for package in "${wanted[@]}"; do
    case " ${missing[*]:-} " in *" $package "*) continue ;; esac
    is_installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing ${#missing[@]} packages: ${missing[*]}"
if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    fail "needs root or sudo to install packages"
fi
as_root true || fail "sudo did not let us in"

output=$(mktemp)
trap 'drop_guards; rm -f "$output"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
put_guard /usr/sbin/policy-rc.d 755 $'#!/bin/sh\nexit 101'
put_guard /etc/postgresql-common/createcluster.d/escrow.conf 644 'create_main_cluster = false'

# The package lists may be missing (a fresh machine) or old: one update, and only if the first try fails.
if ! apt_install >"$output" 2>&1; then
    as_root apt-get -q -o DPkg::Lock::Timeout=300 update >"$output" 2>&1 || {
        tail -n 5 "$output" >&2
        fail "apt-get update failed"
    }
    apt_install >"$output" 2>&1 || {
        grep -E '^(E|W|dpkg):' "$output" >&2 || tail -n 5 "$output" >&2
        fail "apt-get install failed"
    }
fi
for package in "${missing[@]}"; do
    is_installed "$package" || fail "$package is still missing after apt-get install"
done
