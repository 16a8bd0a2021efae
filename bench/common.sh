# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the scripts of this folder share: the arguments that decide about anything besides running the
# program, and the build in build/bench. To be sourced by bash.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/bench
log=$build.log
out=$root/bench/out
peers=

# bench_arguments TEXT ARGUMENT...: prints the text for --help, and sets `peers` and `out`. The program itself
# checks the options.
bench_arguments() {
    local text=$1
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) tail -n +2 "$root/bench/$text"; exit 0 ;;
        --peers) peers=yes ;;
        --out) [ $# -lt 2 ] || { out=$2; shift; } ;;
        --out=*) out=${1#--out=} ;;
        esac
        shift
    done
}

# Builds the targets named in $1 (none: all), and with peers those in $2; if these cannot be built, the
# program says so.
bench_make() {
    if [ ! -f "$build/build.ninja" ]; then
        rm -rf "$build"
        meson setup "$build" "$root" --buildtype=release -Dtests=disabled -Dbench=enabled -Db_lto=false || return 1
    fi
    # shellcheck disable=SC2086 # word splitting is meant
    ninja -C "$build" $1 || return 1
    if [ "$peers" ]; then
        touch "$build/with-peers"
        # shellcheck disable=SC2086
        ninja -C "$build" $2 || true
    fi
}

# bench_build TARGETS PEERS_TARGETS GROUP...: installs the groups of packages, and builds. Silent if all goes
# well.
bench_build() {
    local targets=$1 peers_targets=$2
    shift 2
    "$root/tools/setup" "$@" ${peers:+peers} >&2
    mkdir -p "$root/build"
    # Which peers are there is looked up once, when the build folder is made.
    [ -z "$peers" ] || [ -f "$build/with-peers" ] || rm -rf "$build"
    if ! bench_make "$targets" "$peers_targets" >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
}

# bench_tables PROGRAM FILE ARGUMENT...: runs a program that prints tables and writes them to FILE in the
# output folder.
bench_tables() {
    local program=$1 file=$2 status=0
    shift 2
    mkdir -p "$out" 2>/dev/null || true # if that fails, the program says so
    "$build/bench/$program" --out "$out" "$@" || status=$?
    [ "$status" -ge 2 ] || printf '\nwritten: %s\n' "$out/$file" >&2
    exit "$status"
}
