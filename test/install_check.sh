#!/bin/sh
# SPDX-License-Identifier: MIT
# install_check.sh BUILD_DIR: installs the build into a temporary folder and uses it as a stranger would: through
# pkg-config, against the shared library, the static one, and the headers alone. Checks the exported symbols too.
set -eu

build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "install_check: $1" >&2
    exit 1
}

DESTDIR="$work/root" meson install -C "$build" --no-rebuild --quiet >"$work/log" 2>&1 || { cat "$work/log"; fail "meson install"; }
pc=$(find "$work/root" -name weir.pc)
[ -n "$pc" ] || fail "no weir.pc was installed"
[ -n "$(find "$work/root" -name weir-headers.pc)" ] || fail "no weir-headers.pc was installed"
libdir=$(dirname "$(find "$work/root" -name 'libweir.so')")
prefix=$work/root$(sed -n 's/^prefix=//p' "$pc")
export PKG_CONFIG_PATH="$(dirname "$pc"):$(dirname "$(find "$work/root" -name weir-headers.pc)")"

config() {
    pkg-config --define-variable=prefix="$prefix" "$@"
}

cat >"$work/library.c" <<'PROGRAM'
#include <weir/weir.h>
#include <stdio.h>

int main(void)
{
    struct weir_page_cache *pages;
    if (weir_page_cache_create(&pages, NULL))
        return 1;
    void *page = weir_page_alloc(pages);
    if (!page)
        return 2;
    weir_page_free(pages, page);
    return weir_page_cache_destroy(pages) ? 3 : 0;
}
PROGRAM
cat >"$work/headers.c" <<'PROGRAM'
#include <weir/llist.h>
#include <weir/pool.h>
#include <weir/stack.h>

int main(void)
{
    WEIR_LLIST_HEAD(list);
    struct weir_llist_node node;
    return weir_llist_add(&node, &list) && weir_llist_del_all(&list) == &node ? 0 : 1;
}
PROGRAM

# shellcheck disable=SC2046 # word splitting is meant
{
    cc -std=c11 "$work/headers.c" -o "$work/headers" $(config --cflags weir-headers) || fail "header-only program"
    "$work/headers" || fail "header-only program: exit status $?"

    cc -std=c11 "$work/library.c" -o "$work/shared" $(config --cflags --libs weir) || fail "program on the shared library"
    LD_LIBRARY_PATH="$libdir" "$work/shared" || fail "program on the shared library: exit status $?"

    cc -std=c11 "$work/library.c" -o "$work/static" $(config --cflags weir) "$libdir/libweir.a" \
        $(config --static --libs weir | sed 's/-lweir//g') || fail "program on the static library"
    "$work/static" || fail "program on the static library: exit status $?"
}
! ldd "$work/static" | grep -q libweir || fail "the static program needs libweir.so"

alien=$(nm -D --defined-only "$libdir/libweir.so" | awk '$3 !~ /^weir_/ { print $3 }')
[ -z "$alien" ] || fail "libweir.so exports names that do not begin with weir_: $alien"
