#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The Debian packages of the commit that is checked out: built from a clean copy by dpkg-buildpackage, judged by lintian,
# installed nowhere.
#   tests/interop/debian_package.sh [FOLDER]     keeps the copy and the packages in FOLDER
# What is missing is said, and the exit status is 0 then (77 with STRICT=1).
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() {
    echo "debian_package: $1: skipped"
    exit $((${STRICT:-0} ? 77 : 0))
}
for command in dpkg-buildpackage dh lintian git; do
    command -v $command >/dev/null || skip "no $command (Debian: apt install dpkg-dev debhelper dh-python lintian git)"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
folder=${1:-$work/packages}
version=$(dpkg-parsechangelog -S Version)
copy=$folder/lowbit-$version
rm -rf "$copy"
mkdir -p "$copy"
git archive HEAD | tar -x -C "$copy"
cd "$copy"
dpkg-checkbuilddeps 2>"$work/missing" || skip "$(cat "$work/missing")"
echo "dpkg-buildpackage -us -uc"
dpkg-buildpackage -us -uc >"$folder/build.log" 2>&1 || { tail -n 60 "$folder/build.log"; exit 1; }
grep -E 'tests passed|tests failed' "$folder/build.log" || true
cd "$folder"
for package in ./*_"$version"_*.deb; do
    echo "$package: $(dpkg-deb -f "$package" Installed-Size) KiB; depends on $(dpkg-deb -f "$package" Depends)"
done
echo "lintian"
status=0
lintian --fail-on error --display-info ./lowbit_"$version"_*.changes >"$folder/lintian.log" 2>&1 || status=$?
cat "$folder/lintian.log"
echo "lintian: $(grep -c '^E:' "$folder/lintian.log" || true) errors, $(grep -c '^W:' "$folder/lintian.log" || true) warnings"
exit "$status"
