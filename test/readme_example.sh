#!/bin/sh
# SPDX-License-Identifier: MIT
# readme_example.sh LIBWEIR_A: compiles and runs every C block of README.md that has a main.
set -eu

library=$1
root=$(cd "$(dirname "$0")/.." && pwd)
readme=$root/README.md
[ -f "$readme" ] || { echo "no README.md yet"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

awk -v prefix="$work/block" '
    /^```c$/ { inside = 1; file = prefix sprintf("%02d", ++n) ".c"; printf "" >file; next }
    /^```/ { inside = 0 }
    inside { print >file }' "$readme"

ran=0
for block in "$work"/block*.c; do
    grep -q 'int main' "$block" 2>/dev/null || continue
    # shellcheck disable=SC2046 # word splitting is meant
    cc -std=c11 -Wall -Wextra -Wpedantic -Werror "-I$root/include" "$block" "$library" \
        $(pkg-config --cflags --libs liburcu-qsbr) -pthread -o "$work/program" ||
        { cat -n "$block"; echo "readme_example: this block does not compile" >&2; exit 1; }
    "$work/program" || { cat -n "$block"; echo "readme_example: this block exits with $?" >&2; exit 1; }
    ran=$((ran + 1))
done
[ "$ran" -gt 0 ] || { echo "readme_example: README.md has no C block with a main" >&2; exit 1; }
echo "$ran examples ran"
