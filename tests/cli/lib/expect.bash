# SPDX-License-Identifier: MIT
# What every test of the command from outside begins with: `. tests/cli/lib/expect.bash`, from the
# repository's root, with LOWBIT=path of the command. A test ends with exit status 1
# when $failures is not 0.
set -u
: "${LOWBIT:?set LOWBIT to the path of the command}"
unset LB_CPU

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

bad() {
    echo "FAILED: $*"
    sed 's/^/    stdout: /' "$work/out" | head -n 5
    sed 's/^/    stderr: /' "$work/err" | head -n 5
    failures=$((failures + 1))
}

# expect STATUS ARGUMENTS...: runs the command; its output stays in $work/out and $work/err.
expect() {
    local want=$1 got
    shift
    name="lowbit $*"
    "$LOWBIT" "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ "$got" -eq "$want" ] || bad "$name: exit $got, wanted $want"
}
stdout_has() { grep -qF -- "$1" "$work/out" || bad "$name: stdout lacks \"$1\""; }
silent_stderr() { [ ! -s "$work/err" ] || bad "$name: stderr is not empty"; }
stderr_has() { grep -qF -- "$1" "$work/err" || bad "$name: stderr lacks \"$1\""; }
