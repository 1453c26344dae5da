#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What is installed is enough: programs outside the source tree, in C and in C++, compile and link against it by
# pkg-config, shared and static, and run; wherever the installation is moved to. Needs LB_BUILD=build folder.
. tests/library/lib.bash
mv "$work/prefix" "$work/moved to"
library=${library/$work\/prefix/$work\/moved to}
"$work/moved to/bin/lowbit" --version

export PKG_CONFIG_PATH=$library/pkgconfig
cat >"$work/user.c" <<'PROGRAM'
#include <lowbit/lowbit.h>
#include <stdio.h>

int main(void)
{
    lb_tokenizer *tokenizer = NULL;
    lb_error err;
    lb_status st = lb_tokenizer_open("/nonexistent/model", &tokenizer, &err);
    printf("lowbit %s, %d: %s\n", lb_version(), (int)st, err.msg);
    return st == LB_OK || tokenizer != NULL;
}
PROGRAM
cp "$work/user.c" "$work/user.cpp"
wanted="lowbit $(pkg-config --modversion lowbit), 2:"
flags() { eval "words=($(pkg-config "$@" lowbit))"; }
says() { # says PROGRAM
    "$1" >"$work/said" || { echo "FAILED: $1 failed"; exit 1; }
    grep -qF "$wanted" "$work/said" || { echo "FAILED: $1 said $(cat "$work/said"), wanted $wanted"; exit 1; }
}

flags --cflags --libs
run 'C, shared' "${CC:-cc}" -std=c11 -Wall -Wextra -Wpedantic -Werror "$work/user.c" -o "$work/shared" "${words[@]}"
export LD_LIBRARY_PATH=$library
says "$work/shared"
readelf -d "$work/shared" | grep -qF 'liblowbit.so.0' || { echo 'FAILED: the shared library is not used'; exit 1; }
if command -v "${CXX:-c++}" >/dev/null; then
    run 'C++, shared' "${CXX:-c++}" -std=c++17 -Wall -Wextra -Wpedantic -Werror "$work/user.cpp" -o "$work/cxx" "${words[@]}"
    says "$work/cxx"
fi
unset LD_LIBRARY_PATH

# Where there is only the archive, -llowbit is that.
rm -f "$library"/liblowbit.so*
flags --cflags --libs --static
run 'C, static' "${CC:-cc}" -std=c11 -Wall -Werror "$work/user.c" -o "$work/static" "${words[@]}"
says "$work/static"
readelf -d "$work/static" | grep -qF 'liblowbit' && { echo 'FAILED: the archive is not used'; exit 1; }
echo "pkg-config: C and C++, shared and static"
