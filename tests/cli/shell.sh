#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Manual pages and shell completion: they hold every command and flag that -h shows, roff has nothing to say about them,
# and shells complete with them. Needs LOWBIT=path of the command.
. tests/cli/lib/expect.bash
cd "$work" || exit 1
case $LOWBIT in /*) ;; *) LOWBIT=$OLDPWD/$LOWBIT ;; esac

"$LOWBIT" reference commands >commands || bad 'no commands'
"$LOWBIT" help | sed -nE 's/^  ([a-z]+) .*/\1/p' | cmp -s - commands || bad 'reference and help know different commands'
expect 2 reference
expect 2 reference man nothing
stderr_has 'wants'
for shell in bash zsh fish; do "$LOWBIT" reference $shell >script.$shell || bad "no $shell"; done

# plain PAGE: its text as a terminal shows it, hyphens and quotes as they are typed.
plain() { groff -man -Tascii -P-cbou "$1" 2>/dev/null; }
"$LOWBIT" reference man lowbit >lowbit.1
while read -r command; do
    page=lowbit-$command.1
    "$LOWBIT" reference man "$command" >"$page"
    if command -v groff >/dev/null; then
        groff -man -Tutf8 -ww -z "$page" >log 2>&1
        [ ! -s log ] || bad "groff on $page: $(head -n 3 log)"
        plain "$page" >text
    fi
    if command -v mandoc >/dev/null; then
        mandoc -Tlint -Wwarning "$page" >log 2>&1 || bad "mandoc on $page: $(head -n 3 log)"
    fi
    "$LOWBIT" "$command" -h | grep -oE '^  (-., )?--[a-z0-9-]+' | sed 's/^ *//' >flags
    [ "$(wc -l <flags)" -ge 7 ] || bad "$command has few flags"
    while read -r flag; do
        [ ! -s text ] || grep -qE -- "^ *$flag( |$)" text || bad "$page lacks $flag"
        flag=${flag##* }
        grep -qE -- "(^|[ \"])$flag([ \"|)]|$)" script.bash || bad "bash lacks $flag"
        grep -qF -- "$flag" script.zsh || bad "zsh lacks $flag"
        grep -qE -- "seen_subcommand_from $command' -l ${flag#--}( |$)" script.fish || bad "fish lacks $command $flag"
    done <flags
    grep -q "^.BR lowbit..-$command " lowbit.1 2>/dev/null || grep -qF "lowbit\\-$command (1)" lowbit.1 ||
        bad "lowbit.1 does not see $page"
done <commands
if command -v groff >/dev/null; then
    groff -man -Tutf8 -ww -z lowbit.1 >log 2>&1
    [ ! -s log ] || bad "groff on lowbit.1: $(head -n 3 log)"
fi
if command -v man >/dev/null; then
    man -l lowbit-quantize.1 >text 2>log </dev/null
    grep -q 'int4' text || bad "man -l: $(cat log)"
fi

# bash: what Tab gives after these words.
mkdir -p models/small
touch models/text.txt 'a file'
cat >try.bash <<'SCRIPT'
. ./script.bash
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_lowbit
printf '%s\n' "${COMPREPLY[@]}"
SCRIPT
# tab WANTED WORD...: one of the answers is WANTED (or with WANTED="-", none is there at all).
tab() {
    local want=$1
    shift
    bash try.bash lowbit "$@" >"$work/out" 2>"$work/err"
    name="bash: lowbit $*"
    if [ "$want" = - ]; then
        [ -z "$(tr -d '\n' <"$work/out")" ] || bad "$name: wanted nothing"
    else
        grep -qxF -- "$want" "$work/out" || bad "$name: wanted $want"
    fi
    [ ! -s "$work/err" ] || bad "$name: stderr"
}
tab quantize qu
tab --version --v
tab eval help ev
tab --format quantize --fo
tab -o quantize -
tab models quantize mo
tab models/small quantize models/
tab 'a file' quantize 'a f'
tab int4-g128 quantize m --format int4-
tab int4-g128 quantize m --format = int4-
tab mxfp4 quantize m --format mx
tab int4-g32,int8-row quantize m --candidates int4-g32,int8-ro
tab nvfp4 quantize m --layer '*.down_proj' = nvf
tab range quantize m --fit ra
tab models/text.txt eval m --text models/t
tab gguf export m --to gg
tab compressed-tensors export m --to = c
tab - run m -n 1
tab - quantize m --format zz
tab --top-k run m --top

# zsh and fish, where they are: that the scripts are read, and what completion finds.
if command -v zsh >/dev/null; then
    zsh -n script.zsh 2>log || bad "zsh: $(head -n 3 log)"
    # What the script hands to zsh's own completion functions, which are stand-ins here.
    cat >try.zsh <<'SCRIPT'
_arguments() { print -rl -- "$@" }
_describe() { print -rl -- "${(@P)2}" }
words=("$@")
CURRENT=$#
. ./script.zsh
SCRIPT
    zsh_tab() { # zsh_tab WANTED WORD...
        local want=$1
        shift
        zsh -f try.zsh lowbit "$@" >"$work/out" 2>"$work/err"
        name="zsh: lowbit $*"
        grep -qF -- "$want" "$work/out" || bad "$name: wanted $want"
        [ ! -s "$work/err" ] || bad "$name: stderr"
    }
    zsh_tab 'quantize:makes a model small' qu
    zsh_tab ':(gguf safetensors gptq awq auto-round compressed-tensors)' export m --to ''
    zsh_tab ':MODEL:_files' export ''
    zsh_tab ':_lowbit_format' quantize m --format ''
    zsh_tab ':_lowbit_rule' quantize m --layer ''
    zsh_tab '(-o --output)--output=[' quantize m -o ''
fi
if command -v fish >/dev/null; then
    fish -n script.fish 2>log || bad "fish: $(head -n 3 log)"
    fish_tab() { # fish_tab WANTED LINE
        HOME=$work fish --no-config -c "source script.fish; complete -C '$2'" 2>err | cut -f1 >out
        name="fish: $2"
        grep -qxF -- "$1" out || bad "$name: wanted $1"
    }
    fish_tab quantize 'lowbit qua'
    fish_tab --format 'lowbit quantize --for'
    fish_tab int4-g128 'lowbit quantize m --format int4-g1'
    fish_tab awq 'lowbit export m --to aw'
    fish_tab models/text.txt 'lowbit eval m --text models/te'
fi

[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "shell: manuals and completion of $(wc -l <commands) commands"
