#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The shared library's face: what it exports is what include/lowbit declares, each name once in src/lowbit.map and with
# the version that the map says; nothing else, not even by accident. Needs LB_BUILD=build folder.
set -euo pipefail
export LC_ALL=C
: "${LB_BUILD:?set LB_BUILD to the build folder}"
library=$LB_BUILD/liblowbit.so
[ -e "$library" ] || { echo "no liblowbit.so in this build (LB_SHARED=OFF): skipped"; exit 0; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
bad() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# LB_API type lb_name(...): the preprocessor removes what is not code, and makes LB_API an attribute.
for header in include/lowbit/*.h; do
    "${CC:-cc}" -E -P -Iinclude "$header"
done | tr '\n' ' ' | grep -oE '\("default"\)\)\) [^(;]*\(' | sed -E 's/.*[ *](lb_[a-z0-9_]+) *\($/\1/' | sort -u \
    >"$work/declared"
awk '/^[A-Z0-9_.]+ \{/ { version = $1 } /^    lb_/ { sub(/;/, "", $1); print $1 "@@" version }' src/lowbit.map |
    sort >"$work/mapped_versions"
sed 's/@@.*//' "$work/mapped_versions" >"$work/mapped"
nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort >"$work/exported_versions"

count=$(wc -l <"$work/declared")
[ "$count" -ge 60 ] || bad "only $count functions found in the headers"
[ -z "$(uniq -d "$work/mapped")" ] || bad "twice in src/lowbit.map: $(uniq -d "$work/mapped" | xargs)"
for pair in "declared mapped" "mapped declared"; do
    read -r one other <<<"$pair"
    missing=$(comm -23 "$work/$one" "$work/$other" | xargs)
    [ -z "$missing" ] || bad "$one, but not $other: $missing"
done
if command -v readelf >/dev/null && ! cmp -s "$work/mapped_versions" "$work/exported_versions"; then
    bad 'exported is not what src/lowbit.map says:'
    diff "$work/mapped_versions" "$work/exported_versions" || true
fi
readelf -d "$library" | grep -qF 'soname: [liblowbit.so.0]' || bad 'the soname is not liblowbit.so.0'

# Debian's list, where the version that brought a name is the package's.
sed -nE 's/^ (lb_[a-z0-9_]+)@(LOWBIT_[0-9.]+) .*/\1@@\2/p' debian/liblowbit0.symbols | sort |
    cmp -s - "$work/mapped_versions" || bad 'debian/liblowbit0.symbols and src/lowbit.map list different names'

# A list's beginning is the other lists' measure: the map is sorted, so that two changes rarely meet in one line.
grep '^    lb_' src/lowbit.map | sort -c 2>/dev/null || bad 'src/lowbit.map is not sorted'

[ "$failures" -eq 0 ] || exit 1
echo "symbols: $count functions, exported as declared"
