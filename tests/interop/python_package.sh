#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The Python package from this checkout: installed by pip into a fresh environment, tested there, type-checked.
#   tests/interop/python_package.sh [FOLDER]     keeps the environment in FOLDER
# Where there is no Python with venv, or pip cannot get packages, it says so and exits 0 (77 with STRICT=1).
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() {
    echo "python_package: $1: skipped"
    exit $((${STRICT:-0} ? 77 : 0))
}
python=${PYTHON:-python3}
command -v "$python" >/dev/null || skip "no $python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || skip "$("$python" --version) is older than 3.9"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
environment=${1:-$work/environment}
"$python" -m venv "$environment" >"$work/log" 2>&1 || skip "$python has no venv"
pip() { "$environment/bin/python" -m pip --disable-pip-version-check "$@" >"$work/log" 2>&1; }
pip install pytest mypy numpy || skip "pip cannot install pytest, mypy and numpy"
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2}
pip install bindings/python || { tail -n 40 "$work/log"; echo 'python_package: pip install failed'; exit 1; }
# Away from the checkout, so that it is the installed package that is imported.
cp -r bindings/python/README.md "$work/"
tests=$PWD/bindings/python/tests
cd "$work"
"$environment/bin/python" -m pytest -q -p no:cacheprovider "$tests"
"$environment/bin/python" -m pip show -f lowbit | grep -E '^Version|lowbit/'
