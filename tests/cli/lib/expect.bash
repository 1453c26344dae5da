# SPDX-License-Identifier: MIT
# What every test of the command from outside begins with: `. tests/cli/lib/expect.bash`, from the
# repository's root, with LOWBIT=path of the command. A test ends with exit status 1
# when $failures is not 0.
set -u
: "${LOWBIT:?set LOWBIT to the path of the command}"
unset LB_CPU

work=$(mktemp -d)
failures=0
input=/dev/null # of the commands that `expect` runs

# A misspelled check would pass as nothing: it fails the test in the end instead.
command_not_found_handle() {
    echo "no such command: $1" | tee -a "$work/missing" >&2
    return 127
}
at_end() { :; } # a test's own tidying up
finish() {
    local status=$?
    at_end
    [ ! -e "$work/missing" ] || status=1
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

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
    "$LOWBIT" "$@" >"$work/out" 2>"$work/err" <"$input"
    got=$?
    [ "$got" -eq "$want" ] || bad "$name: exit $got, wanted $want"
}
# wait_until COMMAND...: until it succeeds, 20 s at most
wait_until() {
    local _
    for _ in $(seq 2000); do
        "$@" && return 0
        sleep 0.01
    done
    return 1
}
stdout_has() { grep -qF -- "$1" "$work/out" || bad "$name: stdout lacks \"$1\""; }
silent_stdout() { [ ! -s "$work/out" ] || bad "$name: stdout is not empty"; }
silent_stderr() { [ ! -s "$work/err" ] || bad "$name: stderr is not empty"; }
stderr_has() { grep -qF -- "$1" "$work/err" || bad "$name: stderr lacks \"$1\""; }
