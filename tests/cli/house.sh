#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The checks of the source can fail: a small tree that keeps the rules passes tools/house.sh, and each
# breach, made one at a time, is found and named.
set -u

root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
export CXX=none # C++ adds nothing here but time

fresh() {
    rm -rf "$work/tree"
    mkdir -p "$work/tree"/{tools,include/lowbit,src/base,src/io,src/eval,src/infer,src/cli,tests/golden/a}
    cd "$work/tree" || exit 1
    cp "$root/tools/house.sh" tools/
    printf '/* SPDX-License-Identifier: MIT */\n#include <stddef.h>\nsize_t lb_size(void);\n' >include/lowbit/size.h
    printf '/* SPDX-License-Identifier: MIT */\nint lb_low(void);\n' >src/base/low.h
    printf '/* SPDX-License-Identifier: MIT\n * may printf("in comments") and free() */\n#include "base/low.h"\n' >src/io/read.c
    printf 'static const char *const text = "abort(); malloc(3)";\n' >>src/io/read.c
    printf '/* SPDX-License-Identifier: MIT */\n#include "io/read.h"\n' >src/eval/score.c
    printf '/* SPDX-License-Identifier: MIT */\nint lb_read(void);\n' >src/io/read.h
    printf 'made by hand\n' >tests/golden/a/README.md
}

# breach WORDS FILE LINE...: with these lines added to FILE, house.sh fails and says WORDS of FILE.
breach() {
    local words=$1 file=$2
    shift 2
    fresh
    [ -e "$file" ] || printf '/* SPDX-License-Identifier: MIT */\n' >"$file"
    printf '%s\n' "$@" >>"$file"
    expect_breach "$words" "$file"
}

expect_breach() {
    if bash tools/house.sh >"$work/out" 2>&1; then
        echo "FAILED: not found: $1 in $2"
        failures=$((failures + 1))
    elif ! grep -F -- "$1" "$work/out" | grep -qF -- "$2"; then
        echo "FAILED: $2 is not said to break: $1"
        sed 's/^/    /' "$work/out"
        failures=$((failures + 1))
    fi
}

fresh
bash tools/house.sh >"$work/out" 2>&1 || { echo "FAILED: a tree that keeps the rules"; cat "$work/out"; exit 1; }

breach 'may not include io/' src/base/up.c '#include "io/read.h"'
breach 'may not include eval/' src/infer/side.c '#include "eval/score.h"'
breach 'not written as folder/file' src/io/near.c '#include "read.h"'
breach 'a public header includes' include/lowbit/leak.h '#include "base/low.h"'
breach 'prints or ends the process' src/io/loud.c 'void f(void) { printf("x"); }'
breach 'prints or ends the process' src/base/loud.c 'void f(void) {' '    exit(1);' '}'
breach 'reads the environment' src/io/env.c 'const char *f(void) { return getenv("HOME"); }'
breach 'allocates outside' src/io/heap.c 'void *f(void) { return malloc(3); }'
breach 'allocates outside' src/cli/heap.c 'void f(void *p) { free (p); }'
breach 'opens files past' src/io/open.c 'void *f(void) { return fopen("x", "r"); }'
breach 'starts threads' src/io/omp.c '#pragma omp parallel for'
breach 'a tab' src/io/tab.c $'\tint x;'
breach 'white space at the end' src/io/space.c 'int x; '
breach 'longer than' src/io/wide.c "$(printf '/* %0120d */' 0)"
breach 'a function of' src/io/tall.c 'int lb_tall(void)' '{' "$(yes '    ;' | head -n 81)" '}'
breach 'has two jobs' src/io/huge.c "$(yes 'extern int x;' | head -n 660)"
breach 'left undone' src/io/later.c '/* TO''DO: everything */'
breach 'the same name' src/eval/read.c 'extern int x;'
breach 'does not compile alone' include/lowbit/broken.h 'size_t lb_broken(void);'
fresh
mkdir tests/golden/b
expect_breach 'golden numbers without' tests/golden/b
fresh
printf 'int x;\n' >src/io/bare.c
expect_breach 'no SPDX' src/io/bare.c

[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "house: finds every kind of breach"
