#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks one public header (weir/NAME.h): it compiles alone, twice included, as strict C11 and as C++17 with every
# compiler that is here, it includes nothing from a floor above its own, and on floors 0 and 1 it needs no library, nor
# does it on 32-bit x86.
# With --listed: checks that test/headers.txt names exactly the headers that exist.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
list=$root/test/headers.txt
include=$root/include

fail() {
    echo "headers_alone: $1" >&2
    exit 1
}

floor_of() {
    awk -v header="$1" '!/^#/ && $2 == header { print $1 }' "$list"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "$1" = --listed ]; then
    (cd "$include" && find weir -name '*.h' | sort) >"$work/exist"
    awk '!/^#/ && NF { print $2 }' "$list" | sort >"$work/listed"
    diff -u "$work/listed" "$work/exist" || fail "test/headers.txt and include/weir differ (-: listed, +: exists)"
    exit 0
fi

header=$1
floor=$(floor_of "$header")

for below in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]\(weir\/[^>"]*\)[>"].*/\1/p' "$include/$header"); do
    its_floor=$(floor_of "$below")
    [ -n "$its_floor" ] || fail "$header includes $below, which test/headers.txt does not list"
    [ "$its_floor" -le "$floor" ] || fail "$header (floor $floor) includes $below (floor $its_floor)"
done

printf '#include <%s>\n#include <%s>\nint main(void)\n{\n    return 0;\n}\n' "$header" "$header" >"$work/alone.c"
cp "$work/alone.c" "$work/alone.cc"

flags="-I$include -Wall -Wextra -Wpedantic -Wshadow -Werror"
for compiler in gcc clang; do
    command -v "$compiler" >/dev/null || continue
    # shellcheck disable=SC2086 # word splitting is meant
    $compiler -std=c11 $flags -Wconversion -c "$work/alone.c" -o "$work/alone.o" || fail "$header as C11: $compiler"
done
for compiler in g++ clang++; do
    command -v "$compiler" >/dev/null || continue
    # shellcheck disable=SC2086
    $compiler -std=c++17 $flags -c "$work/alone.cc" -o "$work/alone.o" || fail "$header as C++17: $compiler"
done

if [ "$floor" -le 1 ] && command -v gcc >/dev/null; then
    # Unused inline functions are kept, so that each has to link too.
    gcc -std=c11 "-I$include" -fkeep-inline-functions "$work/alone.c" -o "$work/alone" || fail "$header needs a library"
    "$work/alone" || fail "$header: the empty program failed"
fi

# And on 32-bit x86, where the head of a stack is one 64-bit word: no call of a library that may take a lock.
if [ "$floor" -le 1 ] && gcc -m32 -E - </dev/null >/dev/null 2>&1; then
    gcc -m32 -ffreestanding -std=c11 "-I$include" -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror \
        -fkeep-inline-functions -c "$work/alone.c" -o "$work/alone.o" || fail "$header on 32-bit x86"
    calls=$(nm -u "$work/alone.o" | grep -v _GLOBAL_OFFSET_TABLE_ || true)
    [ -z "$calls" ] || fail "$header on 32-bit x86 calls $calls"
fi
