#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Training text from books: plain texts (.txt, or .txt.xz), public domain, into one file that `lowbit train` reads.
#   tools/books.sh FILE... >books.txt
# Of a Project Gutenberg text what stands before "*** START OF" and after "*** END OF" is left out, with the lines that
# tell of its making; so are notes on illustrations. Line ends become LF, runs of empty lines two, byte order marks and
# trailing blanks go, and every book ends with <|endoftext|>. A file may hold several books that end so already.
set -euo pipefail
export LC_ALL=C
[ $# -gt 0 ] || { sed -n '3,4s/^# *//p' "$0" >&2; exit 2; }

clean() {
    sed -e 's/\r$//' -e '1s/^\xEF\xBB\xBF//' -e 's/[ \t]*$//' | awk '
        function end_book() { if (printed) print "\n<|endoftext|>"; printed = 0; empty = 0 }
        /^\*\*\* ?START OF/ { printed = 0; held = ""; skip = 0; started = 1; next }
        /^\*\*\* ?END OF/ { end_book(); skip = 1; next }
        $0 == "<|endoftext|>" { end_book(); skip = 0; next }
        skip || /^Produced by / || /^\[Illustration[^]]*\]$/ || /^Transcriber/ { next }
        $0 == "" { empty++; next }
        {
            if (printed) for (i = 0; i < empty && i < 2; i++) print ""
            print; printed = 1; empty = 0
        }
        END { end_book() }'
}

# A Gutenberg header comes before the START line, which awk meets too late: it is cut off first.
body() { awk 'NR == FNR { if (/^\*\*\* ?START OF/) first = FNR; next } FNR >= first' "$1" "$1"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for file; do
    case $file in
        *.xz) xz -dc -- "$file" >"$work/text" ;;
        *) cp -- "$file" "$work/text" ;;
    esac
    body "$work/text" | clean
done
