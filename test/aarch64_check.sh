#!/bin/sh
# SPDX-License-Identifier: MIT
# Floors 0 and 1, and percpu, on aarch64: cross-compiles their unit tests and stress programs, in both layouts of the
# head, and runs them under qemu's user emulation. That shows whether the code generated is right, the assembly of the
# 16-byte compare-and-swap and of the restartable sequences above all; it says nothing about orders that are too weak,
# since qemu's memory is as strong as the machine's. The emulator has no restartable sequences: percpu's other tests run
# in its lock mode, and in the test of the sequences the test itself plays the kernel.
# Ends with "N passed, M failed". Needs the packages of the group "cross" (tools/setup cross).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cc=aarch64-linux-gnu-gcc
qemu=
for name in qemu-aarch64 qemu-aarch64-static; do
    command -v "$name" >/dev/null && qemu=$name && break
done
if ! command -v $cc >/dev/null || [ -z "$qemu" ]; then
    echo "aarch64_check.sh: $cc and qemu-aarch64 are needed: tools/setup cross" >&2
    echo "0 passed, 1 failed"
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

result() { # NAME STATUS
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1"
        sed 's/^/    /' "$work/log"
    fi
}

compile() { # OUTPUT SOURCE OPTION...
    output=$1 source=$2
    shift 2
    $cc -std=c11 -O2 -g -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -static -pthread -D_GNU_SOURCE -DWEIR_TEST_SHIM \
        "-I$root/include" "-I$root/test" "$@" "$root/test/$source" -o "$work/$output" >"$work/log" 2>&1
}

check() { # NAME SOURCE OPTION... [-- ARGUMENT...]
    name=$1 source=$2 options=
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        options="$options $1"
        shift
    done
    [ $# -eq 0 ] || shift
    status=0
    # shellcheck disable=SC2086 # word splitting is meant
    { compile "$name" "$source" $options && timeout 120 "$qemu" "$work/$name" "$@" >"$work/log" 2>&1; } || status=$?
    result "aarch64, $name" "$status"
}

for layout in wide packed; do
    define=
    [ $layout = wide ] || define=-DWEIR_STACK_PACKED
    for stem in llist stack pool magazine atomic; do
        # shellcheck disable=SC2086
        check "$stem-$layout" "unit/${stem}_test.c" $define
    done
    # shellcheck disable=SC2086
    {
        check "stack-$layout-checked" unit/stack_test.c -DWEIR_CHECKED=1 $define
        check "pool-$layout-checked" unit/pool_test.c -DWEIR_CHECKED=1 $define
        check "atomic-hook-$layout" unit/atomic_hook_test.c '-DWEIR_ATOMIC_HOOK="unit/atomic_hook.h"' $define
    }
    for stem in llist stack pool; do
        # shellcheck disable=SC2086
        check "$stem-$layout-stress" "stress/${stem}_stress.c" $define -- 4 clock 500
    done
done

# One guest instruction at a time, so that a signal comes between any two (the name of older versions, of newer ones).
export QEMU_SINGLESTEP=1 QEMU_ONE_INSN_PER_TB=1
percpu_sources="$root/src/percpu.c $root/src/percpu_mode.c"
for machine in armv8-a armv8.1-a; do # exclusive instructions, a swap in one instruction
    # shellcheck disable=SC2086
    check "sequence-$machine" unit/sequence_test.c "-I$root/src" $percpu_sources -march=$machine
done
unset QEMU_SINGLESTEP QEMU_ONE_INSN_PER_TB
# shellcheck disable=SC2086
{
    check percpu unit/percpu_test.c "-I$root/src" $percpu_sources
    check percpu-stress stress/percpu_stress.c "-I$root/src" $percpu_sources -- 4 clock 1000
}

# Is it the pair of exclusive instructions that was run, and no call of a library that may take a lock?
status=0
aarch64-linux-gnu-objdump -d "$work/stack-wide" >"$work/disassembly"
for instruction in ldaxp stlxp; do
    grep -qw $instruction "$work/disassembly" || { echo "no $instruction in stack-wide" >"$work/log"; status=1; }
done
aarch64-linux-gnu-nm "$work/stack-wide-stress" >"$work/symbols"
! grep -q '__atomic_.*_16' "$work/symbols" || { echo "a 16-byte operation of libatomic" >"$work/log"; status=1; }
result "aarch64, the wide layout's instructions" $status

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
