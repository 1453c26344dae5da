#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The rules of the source that a machine can check (CONTRIBUTING.md says what they are for).
#   tools/house.sh [BUILD]   with a build folder, the library's symbols are checked too
# Prints every breach as "file:line: sentence" and exits 1 when there is one.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
build=${1:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
breaches=$work/breaches
: >"$breaches"

# ---- What is checked: the files of the repository, committed or about to be -------------------------
files() { # files GLOB...
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while read -r name; do
            [ ! -f "$name" ] || printf '%s\n' "$name"
        done
    else
        local pattern
        for pattern; do find . -path "./build*" -prune -o -type f -path "./$pattern" -print; done |
            sed 's|^\./||' | sort -u
    fi
}
files 'include/*.h' 'src/*.c' 'src/*.h' 'src/*.def' >"$work/library"
files 'tests/*.c' 'tests/*.h' 'bench/*.c' 'bench/*.h' 'examples/*.c' >"$work/around"
cat "$work/library" "$work/around" >"$work/c"
files 'tools/*.sh' 'tests/*.sh' 'cmake/*.cmake' 'cmake/*.cmake.in' 'examples/CMakeLists.txt' CMakeLists.txt Makefile >"$work/scripts"
files '*.md' >"$work/prose"

# Code without comments and string contents, each line as "file:line:code".
# shellcheck disable=SC2046
awk '
FNR == 1 { comment = 0 }
{
    out = ""; n = length($0); i = 1
    while (i <= n) {
        two = substr($0, i, 2); one = substr($0, i, 1)
        if (comment) { if (two == "*/") { comment = 0; i += 2 } else i++; continue }
        if (two == "/*") { comment = 1; i += 2; continue }
        if (two == "//") break
        if ((one == "\"" && $0 !~ /^ *# *include/) || one == "\047") {
            out = out one
            for (i++; i <= n && substr($0, i, 1) != one; i++)
                if (substr($0, i, 1) == "\\") i++
            out = out one; i++
            continue
        }
        out = out one; i++
    }
    if (out ~ /[^ ]/) print FILENAME ":" FNR ":" out
}' $(cat "$work/c") >"$work/code"

# breach_lines SENTENCE: turns "file:line:..." lines into breaches.
breach_lines() {
    sed -E "s|^([^:]*:[0-9]+):.*|\1: $1|" >>"$breaches"
}

# ---- Includes point only down ------------------------------------------------------------------------
grep -E '^(src|include)/[^:]*:[0-9]+: *# *include *"' "$work/code" | awk -F: '
BEGIN {
    split("base formats kernels linalg io model calibrate transform quantize pack infer eval train analyze report serve export cli", name, " ")
    split("0 1 2 2 3 4 5 5 6 7 8 8 8 8 8 8 8 9", floor, " ")
    for (i in name) rank[name[i]] = floor[i]
}
{
    split($3, quoted, "\""); split(quoted[2], to, "/"); split($1, from, "/")
    at = $1 ":" $2 ": "
    if (to[1] == "lowbit") next
    if (from[1] == "include") { print at "a public header includes " quoted[2] ", which is not installed"; next }
    if (!(to[1] in rank)) { print at "\"" quoted[2] "\" is not written as folder/file of a known floor"; next }
    if (from[2] != to[1] && rank[to[1]] >= rank[from[2]])
        print at from[2] "/ (floor " rank[from[2]] ") may not include " to[1] "/ (floor " rank[to[1]] ")"
}' >>"$breaches"

# ---- What only one place may do ----------------------------------------------------------------------
calls() { # calls FUNCTIONS: the places in src/ that call one of them, members of structs excepted
    grep -E "^src/[^:]*:[0-9]+:(.*[^A-Za-z0-9_.>])?($1) *\(" "$work/code" || true
}
calls 'printf|fprintf|vprintf|vfprintf|dprintf|puts|fputs|putchar|putc|fputc|perror|exit|_exit|_Exit|quick_exit|abort' |
    { grep -v '^src/cli/' || true; } | breach_lines 'prints or ends the process outside src/cli'
calls 'getenv|secure_getenv|setenv' | { grep -v '^src/cli/' || true; } |
    breach_lines 'reads the environment outside src/cli'
calls 'malloc|calloc|realloc|free|aligned_alloc|posix_memalign|strdup|strndup|asprintf|alloca' |
    { grep -v '^src/base/' || true; } | breach_lines 'allocates outside src/base: use base/alloc.h'
calls 'fopen|freopen|tmpfile|popen|system' | { grep -Ev '^src/(base|cli)/' || true; } |
    breach_lines 'opens files past base/file.h'
{ calls 'pthread_create|thrd_create'; grep -E '^src/[^:]*:[0-9]+: *# *pragma omp .*parallel' "$work/code" || true; } |
    { grep -v '^src/base/thread\.c:' || true; } | breach_lines 'starts threads: use base/thread.h'

# ---- Size and shape ----------------------------------------------------------------------------------
# A table of constants may be long: its file says "house: table".
while read -r name; do
    lines=$(wc -l <"$name")
    if [ "$lines" -gt 650 ] && ! grep -q 'house: table' "$name"; then
        echo "$name:$lines: $lines lines; above 650 a file has two jobs" >>"$breaches"
    fi
done <"$work/c"
# shellcheck disable=SC2046
awk '
FNR == 1 { start = 0 }
/^{/ { start = FNR }
/^}/ { if (start && FNR - start > 81) print FILENAME ":" start ": a function of " FNR - start - 1 " lines; at most 80"; start = 0 }
/\t/ { print FILENAME ":" FNR ": a tab" }
/[ \r]$/ { print FILENAME ":" FNR ": white space at the end of the line" }
length($0) > 120 { print FILENAME ":" FNR ": longer than 120 columns (110 is the style; make format)" }
' $(cat "$work/c") >>"$breaches"

# ---- Licence lines, words, names ---------------------------------------------------------------------
while read -r name; do
    head -n 3 "$name" | grep -q 'SPDX-License-Identifier: MIT' ||
        echo "$name:1: no SPDX-License-Identifier line" >>"$breaches"
done < <(cat "$work/c" "$work/scripts")
words="TO""DO|FIX""ME|X""XX|HA""CK"
while read -r name; do
    { grep -nwE "$words" "$name" || true; } | sed -E "s|^([0-9]+):.*|$name:\1: work left undone has no place in the source|" \
        >>"$breaches"
done < <(cat "$work/c" "$work/scripts" "$work/prose")
for kind in c h; do
    grep -E "^src/.*\.$kind$" "$work/library" | awk -F/ '
        $NF in seen { print $0 ":1: has the same name as " seen[$NF] } { seen[$NF] = $0 }' >>"$breaches"
done
awk -F/ '$NF in seen { print $0 ":1: has the same name as " seen[$NF] } { seen[$NF] = $0 }' "$work/around" \
    >>"$breaches"
for folder in tests/golden/*/; do
    [ ! -d "$folder" ] || [ -f "$folder/README.md" ] ||
        echo "$folder:1: golden numbers without a README.md that says how they were made" >>"$breaches"
done

# ---- Public headers stand alone ----------------------------------------------------------------------
alone() { # alone COMPILER FLAGS...
    local name
    for name in include/lowbit/*.h; do
        "$@" -Wall -Wextra -Wpedantic -Werror -fsyntax-only -Iinclude "$name" 2>"$work/log" ||
            { echo "$name:1: does not compile alone with $*"; sed 's/^/    /' "$work/log"; } >>"$breaches"
    done
}
alone "${CC:-cc}" -std=c11 -x c
if command -v "${CXX:-c++}" >/dev/null 2>&1; then
    alone "${CXX:-c++}" -std=c++17 -x c++ -Wno-pragma-once-outside-header
fi

# ---- Symbols: all of them lb_, and exactly what the public headers declare ---------------------------
if [ -n "$build" ]; then
    cat include/lowbit/*.h | tr '\n' ' ' | grep -oE 'LB_API[^;]*;' | grep -oE 'lb_[a-z0-9_]+ *(\(|;)' |
        sed -E 's/ *[(;]$//' | sort -u >"$work/mentioned"
    cat include/lowbit/*.h | tr '\n' ' ' | grep -oE 'LB_API[^;(]*' | grep -oE 'lb_[a-z0-9_]+ *$' | tr -d ' ' |
        sort -u >"$work/declared"
    nm -D --defined-only --without-symbol-versions "$build/liblowbit.so" | awk '$2 ~ /[TDBRVW]/ { print $3 }' | sort -u >"$work/exported"
    while read -r symbol; do
        echo "$symbol: exported, but no header in include/lowbit declares it" >>"$breaches"
    done < <(comm -13 "$work/mentioned" "$work/exported")
    while read -r symbol; do
        echo "$symbol: declared in include/lowbit, but the library does not have it" >>"$breaches"
    done < <(comm -23 "$work/declared" "$work/exported")
    nm -g --defined-only "$build/liblowbit.a" 2>/dev/null | awk 'NF == 3 && $2 ~ /[TDBR]/ { print $3 }' |
        { grep -v '^lb_' || true; } | sort -u | sed 's/$/: a global symbol that does not start with lb_/' >>"$breaches"
fi

if [ -s "$breaches" ]; then
    cat "$breaches" >&2
    echo "house: $(grep -vc '^    ' "$breaches") breaches of the rules in CONTRIBUTING.md" >&2
    exit 1
fi
echo "house: $(wc -l <"$work/c") C files keep the rules"
