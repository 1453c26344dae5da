#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What is installed is enough: a program outside the source tree compiles and links against it by
# pkg-config, shared and static, and runs. Needs LB_BUILD=build folder.
set -euo pipefail
: "${LB_BUILD:?set LB_BUILD to the build folder}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$LB_BUILD" --prefix "$work/prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$work/prefix/bin/lowbit" --version

pc=$(find "$work/prefix" -name lowbit.pc)
export PKG_CONFIG_PATH=${pc%/*}
cat >"$work/user.c" <<'PROGRAM'
#include <lowbit/status.h>
#include <lowbit/tokenizer.h>
#include <stdio.h>

int main(void)
{
    lb_tokenizer *tokenizer = NULL;
    lb_error err;
    lb_status st = lb_tokenizer_open("/nonexistent/model", &tokenizer, &err);
    printf("%d: %s\n", (int)st, err.msg);
    return st == LB_OK || tokenizer != NULL;
}
PROGRAM
# shellcheck disable=SC2046
"${CC:-cc}" -std=c11 -Wall -Werror $(pkg-config --cflags lowbit) "$work/user.c" -o "$work/shared" \
    $(pkg-config --libs lowbit)
library=$(find "$work/prefix" -name 'liblowbit.so')
LD_LIBRARY_PATH=${library%/*} "$work/shared"

archive=$(find "$work/prefix" -name 'liblowbit.a')
# shellcheck disable=SC2046
"${CC:-cc}" -std=c11 -Wall -Werror $(pkg-config --cflags lowbit) "$work/user.c" -o "$work/static" \
    "$archive" $(pkg-config --static --libs lowbit | sed 's/-llowbit//')
"$work/static"
