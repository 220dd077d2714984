#!/usr/bin/env bash
# Install into an empty folder, and use what is there as somebody else's program would.
# usage: install_test.sh BUILD_FOLDER
# Shows: the programs run; pkg-config and CMake find the library; a program in C and a header check in C++ build against it; the
# library exports escrow_ names and nothing else; units and configuration point to where things were installed.
set -euo pipefail
build=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    echo "install_test.sh: $*" >&2
    exit 1
}

root=$scratch/root
DESTDIR=$root cmake --install "$build" >"$scratch/log" || {
    cat "$scratch/log"
    fail "cmake --install failed"
}
prefix=$root$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' "$build/CMakeCache.txt")

echo "programs"
for program in escrowd escrow escrow-relay; do
    "$prefix/bin/$program" --help >"$scratch/help" || fail "$program --help failed"
    grep -qi usage "$scratch/help" || fail "$program --help does not say how to use it"
done

echo "exported names"
library=$(find "$prefix" -name 'libescrow.so' | head -n 1)
[ -n "$library" ] || fail "libescrow.so is not installed"
nm -D --defined-only "$library" | awk '{print $3}' >"$scratch/names"
grep -q '^escrow_' "$scratch/names" || fail "libescrow.so exports no escrow_ names"
if grep -v '^escrow_' "$scratch/names"; then
    fail "libescrow.so exports the names above"
fi

echo "a program, through pkg-config"
cat >"$scratch/program.c" <<'C'
#include <escrow/escrow.h>
#include <escrow/errors.h>
#include <stdio.h>
int main(void)
{
    return puts(escrow_strerror(ESCROW_ENOSPC)) < 0;
}
C
folder=$(find "$prefix" -name escrow.pc -printf '%h\n')
[ -n "$folder" ] || fail "escrow.pc is not installed"
export PKG_CONFIG_PATH=$folder
read -ra flags < <(pkg-config --define-prefix --cflags --libs escrow)
cc -std=c11 -Wall -Wextra -Wpedantic -Werror "$scratch/program.c" -o "$scratch/program" "${flags[@]}"
LD_LIBRARY_PATH=$(dirname "$library") "$scratch/program" >"$scratch/text"
grep -q 'no space' "$scratch/text" || fail "the program does not print the error's text"

echo "each public header alone, in C and as C++"
while read -r header; do
    echo "#include <${header#"$prefix/include/"}>" >"$scratch/header.c"
    cc -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only "${flags[@]}" -I/usr/include/postgresql "$scratch/header.c"
    cc -x c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only "${flags[@]}" -I/usr/include/postgresql "$scratch/header.c"
done < <(find "$prefix/include/escrow" -name '*.h')

echo "a program, through CMake"
cat >"$scratch/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C)
find_package(Escrow REQUIRED)
add_executable(user program.c)
target_link_libraries(user PRIVATE Escrow::escrow)
CMAKE
if ! { cmake -S "$scratch" -B "$scratch/build" -DCMAKE_PREFIX_PATH="$prefix" &&
    cmake --build "$scratch/build"; } >"$scratch/log" 2>&1; then
    cat "$scratch/log"
    fail "a CMake project cannot use the package"
fi
LD_LIBRARY_PATH=$(dirname "$library") "$scratch/build/user" >/dev/null

echo "units, configuration, schema"
for file in escrowd.service escrow-relay.service escrowd.conf escrow-relay.conf; do
    found=$(find "$root" -name "$file")
    [ -n "$found" ] || fail "$file is not installed"
    ! grep -q '@[A-Z_]*@' "$found" || fail "$file has a name that was not filled in"
    while read -r path; do
        [ -e "$root$path" ] || fail "$file names $path, which is not installed"
    done < <(sed -n 's/^ExecStart=//p' "$found" | grep -o '/[^ ]*')
done

install -D /bin/kill "$root/bin/kill" # the system's own, which the units use
systemd-analyze verify --root="$root" --man=no --recursive-errors=no \
    "${prefix#"$root"}"/lib/systemd/system/escrow{d,-relay}.service >"$scratch/log" 2>&1 || fail "units: $(cat "$scratch/log")"
[ ! -s "$scratch/log" ] || fail "units: $(cat "$scratch/log")"

grep -q "^EnvironmentFile=-/.*/escrow/escrow-relay.env" "$(find "$root" -name escrow-relay.service)" ||
    fail "escrow-relay.service has no place for a password"

echo "every option of the configuration, uncommented, is understood"
check_configuration() { # FILE PROGRAM...: all is well until the one bad value that follows on the command line
    local file=$1
    shift
    sed 's/^#\([a-z.]* =\)/\1/' "$(find "$root" -name "$file")" >"$scratch/$file"
    if "$@" --config "$scratch/$file" --log.level nonsense 2>"$scratch/log"; then
        fail "$1 accepts a log level that there is not"
    fi
    grep -q -e '--log.level' "$scratch/log" || fail "$file: $(cat "$scratch/log")"
}
check_configuration escrowd.conf "$prefix/bin/escrowd"
check_configuration escrow-relay.conf "$prefix/bin/escrow-relay" run
[ -n "$(find "$prefix" -name '001_*.sql')" ] || fail "the SQL files are not installed"
echo "another prefix than the configured one"
other=$scratch/other
DESTDIR='' cmake --install "$build" --prefix "$other" >"$scratch/log" || {
    cat "$scratch/log"
    fail "cmake --install --prefix failed"
}
! grep -v " $other" <(grep -e '-- Installing:' -e '-- Up-to-date:' "$scratch/log") || fail "the files above are not below the prefix"
[ -f "$other/etc/escrow/escrowd.conf" ] || fail "the configuration is not below the prefix"
pc=$(find "$other" -name escrow.pc)
[ "$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --variable=prefix escrow)" = "$other" ] || fail "escrow.pc: $(cat "$pc")"
for unit in escrowd escrow-relay; do
    start=$(sed -n 's/^ExecStart=//p' "$other/lib/systemd/system/$unit.service")
    case $start in
    "$other/bin/$unit "*"--config $other/etc/escrow/$unit.conf"*) ;;
    *) fail "$unit.service starts $start" ;;
    esac
done

readelf -h "$prefix/bin/escrowd" | grep -q 'DYN' || fail "escrowd is not position independent"
readelf -d "$prefix/bin/escrowd" | grep -q 'BIND_NOW\|NOW' || fail "escrowd binds symbols lazily"
echo "all as it should be"
