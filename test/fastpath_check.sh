#!/bin/sh
# SPDX-License-Identifier: MIT
# fastpath_check.sh COMPILER...: compiles the inline fast paths and looks at the instructions from their start to
# their end, with no jump taken: no lock prefix, no exchange with memory, no fence, no call, one sequence.
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
function verdict(text) { printf "%s: %s\n", name, text; bad = 1 }
function close_path() {
    if (name == "")
        return
    if (!done) verdict("does not end")
    if (conditional == 0) verdict("has no way out")
    if (sequences != 1) verdict(sequences + 0 " restartable sequences")
    if (count > 40) verdict(count " instructions")
    printf "%-22s %d instructions\n", name, count
    functions++
}
/^[0-9a-f]+ <[a-z_]+>:$/ {
    close_path()
    name = substr($2, 2, length($2) - 3)
    done = conditional = sequences = count = 0
    next
}
name == "" || done { next }
/^ *[0-9a-f]+:\t/ {
    code = $0
    sub(/^ *[0-9a-f]+:\t/, "", code)
    sub(/ +$/, "", code)
    count++
    if (code ~ /^lock|[ \t]lock /) verdict("atomic: " code)
    if (code ~ /^xchg.*\(/) verdict("exchange with memory: " code)
    if (code ~ /^[lm]fence|^mfence/) verdict("fence: " code)
    if (code ~ /^call/) verdict("call: " code)
    if (code ~ /^syscall/) verdict("system call: " code)
    if (code ~ /^mov.*,%fs:0x8\(/) sequences++
    if (code ~ /^j/ && code !~ /^jmp/) conditional++
    if (code ~ /^jmp/) verdict("jump away: " code)
    if (code ~ /^(rep |repz |bnd |notrack )*ret/) done = 1
}
END {
    close_path()
    if (functions != 11) { printf "%d functions instead of 11\n", functions; bad = 1 }
    exit bad
}
AWK

echo '#include "weir/percpu.h"
#if !WEIR__RSEQ
#error none
#endif' >"$work/has.c"
"$@" -std=c11 -I "$root/include" -fsyntax-only "$work/has.c" 2>"$work/log" ||
    { echo "no restartable sequences here: skipped"; exit 77; }

status=0
for options in -O2 "-O2 -fPIC" -O3; do
    echo "$* $options"
    # shellcheck disable=SC2086
    "$@" -std=c11 -Wall -Werror $options -I "$root/include" -c "$work/paths.c" -o "$work/paths.o"
    objdump -d --no-show-raw-insn --section=.text "$work/paths.o" | awk -f "$work/paths.awk" || status=1
done
exit $status
