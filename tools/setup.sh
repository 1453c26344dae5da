#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs the Debian packages that lowbit needs and that are missing, and nothing else. Asks once;
# as root, or with YES=1, it does not ask. Extra package names may be given as arguments.
set -euo pipefail

missing=()

# want PACKAGE COMMAND...: the package is wanted unless all these commands exist.
want_command() {
    local package=$1 command
    shift
    for command; do
        command -v "$command" >/dev/null 2>&1 || { missing+=("$package"); return 0; }
    done
}

# want_module PACKAGE MODULE...: the package is wanted unless pkg-config knows one of the modules.
want_module() {
    local package=$1 module
    shift
    for module; do
        pkg-config --exists "$module" 2>/dev/null && return 0
    done
    missing+=("$package")
}

find_missing() {
    missing=()
    command -v "${CC:-cc}" >/dev/null 2>&1 || missing+=(gcc)
    [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
    want_command cmake cmake
    want_command make make
    want_command pkg-config pkg-config
    want_module libopenblas-openmp-dev openblas openblas-openmp openblas-pthread openblas-serial
    want_module liblapacke-dev lapacke
    want_module libjansson-dev jansson
    want_module libpcre2-dev libpcre2-8
    want_module libutf8proc-dev libutf8proc utf8proc
    want_module libmicrohttpd-dev libmicrohttpd
    want_module libcmocka-dev cmocka
    want_command curl curl
    local package
    for package; do
        case $package in
        python3 | unzip | ninja-build) dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package") ;;
        python3-pip) python3 -m pip --version >/dev/null 2>&1 || missing+=("$package") ;;
        *) dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package") ;;
        esac
    done
}

find_missing "$@"
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: these packages are missing, under their Debian names: ${missing[*]}" >&2
    echo "setup: this system has no apt-get; please install their counterparts, then try again" >&2
    exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "setup: needs root or sudo to run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
    if [ "${YES:-}" != 1 ]; then
        if [ ! -t 0 ]; then
            echo "setup: missing: ${missing[*]}; the same command with YES=1 before it installs them with sudo" >&2
            exit 1
        fi
        read -r -p "Install with sudo apt-get: ${missing[*]}? [Y/n] " answer
        case $answer in
        '' | y | Y | yes) ;;
        *) echo "setup: nothing was installed" >&2; exit 1 ;;
        esac
    fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "setup: installing ${missing[*]}" >&2
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" \
        >>"$log" 2>&1 </dev/null
}
# A fresh machine has no package lists; others may have old ones, which update mends.
if ! apt install --no-install-recommends "${missing[@]}"; then
    if ! { apt update && apt install --no-install-recommends "${missing[@]}"; }; then
        tail -n 20 "$log" >&2
        echo "setup: apt-get could not install ${missing[*]}; its last words are above" >&2
        exit 1
    fi
fi

wanted=("${missing[@]}")
find_missing "$@"
if [ ${#missing[@]} -ne 0 ]; then
    echo "setup: installed ${wanted[*]}, and still cannot find what these should bring: ${missing[*]}" >&2
    exit 1
fi
