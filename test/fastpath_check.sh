#!/bin/sh
# SPDX-License-Identifier: MIT
# fastpath_check.sh COMPILER...: compiles the inline fast paths and looks at the instructions from their start to
# their end, with no jump taken: no lock prefix, no exchange with memory, no fence, no call, one sequence. Then it
# looks at all instructions of the library's bulk sequences, get_n and put_n: none of these, either. The same for
# aarch64, where its cross compiler is at hand.
# x86-64 with restartable sequences only; ends with 77 (skipped) elsewhere.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

command -v objdump >/dev/null || { echo "no objdump: skipped"; exit 77; }

cat >"$work/paths.c" <<'SOURCE'
#include "weir/cache.h"
#include "weir/free_rcu.h"
#include "weir/page_cache.h"
#include "weir/percpu.h"
#if !WEIR__RSEQ
#error no restartable sequences here
#endif
void *percpu_get(struct weir_percpu_slot *slots);
void *percpu_get(struct weir_percpu_slot *slots) { return weir_percpu_get(slots); }
bool percpu_put(struct weir_percpu_slot *slots, void *object);
bool percpu_put(struct weir_percpu_slot *slots, void *object) { return weir_percpu_put(slots, object); }
void *cache_alloc(struct weir_cache *cache);
void *cache_alloc(struct weir_cache *cache) { return weir_cache_alloc(cache); }
void cache_free(struct weir_cache *cache, void *object);
void cache_free(struct weir_cache *cache, void *object) { weir_cache_free(cache, object); }
void cache_free_rcu(struct weir_cache *cache, void *object);
void cache_free_rcu(struct weir_cache *cache, void *object) { weir_cache_free_rcu(cache, object); }
void *page_alloc(struct weir_page_cache *pages);
void *page_alloc(struct weir_page_cache *pages) { return weir_page_alloc(pages); }
void page_free(struct weir_page_cache *pages, void *page);
void page_free(struct weir_page_cache *pages, void *page) { weir_page_free(pages, page); }
void page_free_rcu(struct weir_page_cache *pages, void *page);
void page_free_rcu(struct weir_page_cache *pages, void *page) { weir_page_free_rcu(pages, page); }
void free_rcu(struct weir_reclaimer *reclaimer, void *object, struct weir_rcu_head *head);
void free_rcu(struct weir_reclaimer *reclaimer, void *object, struct weir_rcu_head *head)
{
    weir_free_rcu(reclaimer, object, head);
}
int free_rcu_mightsleep(struct weir_reclaimer *reclaimer, void *object);
int free_rcu_mightsleep(struct weir_reclaimer *reclaimer, void *object)
{
    return weir_free_rcu_mightsleep(reclaimer, object);
}
bool free_rcu_try(struct weir_reclaimer *reclaimer, void *object);
bool free_rcu_try(struct weir_reclaimer *reclaimer, void *object)
{
    return weir_free_rcu_try(reclaimer, object);
}
SOURCE

cat >"$work/paths.awk" <<'AWK'
# Follows each function of objdump's output from its start to its end; conditional jumps are not taken.
# -v aarch64=1: of aarch64's; -v whole=1: all instructions of the functions, wherever they jump.
function verdict(text) { printf "%s: %s\n", name, text; bad = 1 }
function close_path() {
    if (name == "")
        return
    if (!done) verdict("does not end")
    if (whole) {
        if (!sequences) verdict("no restartable sequence")
        printf "%-22s %d instructions\n", name, count
        functions++
        return
    }
    if (conditional == 0) verdict("has no way out")
    if (sequences != 1) verdict(sequences + 0 " restartable sequences")
    if (count > 40) verdict(count " instructions")
    printf "%-22s %d instructions\n", name, count
    functions++
}
/^[0-9a-f]+ <[a-z_0-9.]+>:$/ {
    close_path()
    name = substr($2, 2, length($2) - 3)
    done = conditional = sequences = count = 0
    next
}
name == "" || (done && !whole) { next }
/^ *[0-9a-f]+:\t/ {
    code = $0
    sub(/^ *[0-9a-f]+:\t/, "", code)
    sub(/ +$/, "", code)
    count++
    if (aarch64) {
        if (code ~ /^(ld[a]?xp?r?[bh]?|st[l]?xp?r?[bh]?|ldaxr|stlxr|ldxr|stxr)[ \t]/) verdict("exclusive: " code)
        if (code ~ /^(cas|swp|ldadd|ldclr|ldset|ldeor|stadd)/) verdict("atomic: " code)
        if (code ~ /^(dmb|dsb|isb)/) verdict("fence: " code)
        if (code ~ /^blr?[ \t]/) verdict("call: " code)
        if (code ~ /^svc/) verdict("system call: " code)
        if (code ~ /^mrs.*tpidr_el0/) sequences++
        if (code ~ /^(b\.|cbn?z|tbn?z)/) conditional++
        if (!whole && code ~ /^br?[ \t]/) verdict("jump away: " code)
        if (code ~ /^ret/) done = 1
    } else {
        if (code ~ /^lock|[ \t]lock /) verdict("atomic: " code)
        if (code ~ /^xchg.*\(/) verdict("exchange with memory: " code)
        if (code ~ /^[lm]fence|^mfence/) verdict("fence: " code)
        if (code ~ /^call/) verdict("call: " code)
        if (code ~ /^syscall/) verdict("system call: " code)
        if (code ~ /^mov.*,%fs:0x8\(/) sequences++
        if (code ~ /^j/ && code !~ /^jmp/) conditional++
        if (!whole && code ~ /^jmp/) verdict("jump away: " code)
        if (code ~ /^(rep |repz |bnd |notrack )*ret/) done = 1
    }
}
END {
    close_path()
    if (functions != (whole ? 2 : 11)) { printf "%d functions\n", functions; bad = 1 }
    exit bad
}
AWK

echo '#include "weir/percpu.h"
#if !WEIR__RSEQ
#error none
#endif' >"$work/has.c"
"$@" -std=c11 -I "$root/include" -fsyntax-only "$work/has.c" 2>"$work/log" ||
    { echo "no restartable sequences here: skipped"; exit 77; }

# Functions that are not declared inline stay functions: get_n_rseq and put_n_rseq.
gcc_apart="-fno-inline-functions -fno-inline-small-functions -fno-inline-functions-called-once -fno-ipa-sra -fno-ipa-cp"
apart=$gcc_apart
! "$@" --version | grep -q clang || apart=-finline-hint-functions

status=0
check() { # OBJDUMP AARCH64 COMPILER...
    objdump=$1 aarch64=$2
    shift 2
    for options in -O2 "-O2 -fPIC" -O3; do
        echo "$* $options"
        # shellcheck disable=SC2086
        "$@" -std=c11 -Wall -Werror $options -I "$root/include" -c "$work/paths.c" -o "$work/paths.o"
        "$objdump" -d --no-show-raw-insn --section=.text "$work/paths.o" >"$work/paths"
        awk -v aarch64="$aarch64" -f "$work/paths.awk" "$work/paths" || status=1
        # shellcheck disable=SC2086
        "$@" -std=c11 $options $apart -I "$root/include" -I "$root/src" -c "$root/src/percpu.c" -o "$work/bulk.o"
        "$objdump" -d --no-show-raw-insn --section=.text "$work/bulk.o" |
            awk '/^[0-9a-f]+ </ { on = /<(get|put)_n_rseq/ } on' >"$work/bulk"
        awk -v aarch64="$aarch64" -v whole=1 -f "$work/paths.awk" "$work/bulk" || status=1
    done
}

check objdump 0 "$@"
cross=aarch64-linux-gnu
if command -v $cross-gcc >/dev/null && command -v $cross-objdump >/dev/null; then
    apart=$gcc_apart
    check $cross-objdump 1 $cross-gcc
else
    echo "no $cross-gcc: not looked at"
fi
exit $status
