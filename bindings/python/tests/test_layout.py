# SPDX-License-Identifier: MIT
"""The structs here are those of the headers: sizes and offsets, as a C compiler has them; and the examples run."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lowbit
from lowbit import _c, _jobs

ROOT = Path(__file__).resolve().parents[3]


def test_structs_are_the_headers(tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    include = ROOT / "include"
    if compiler is None or not include.exists():
        pytest.skip("no C compiler, or no headers")
    lines, want = [], []
    for name, struct in _c.STRUCTS.items():
        lines.append(f'printf("%zu\\n", sizeof({name}));')
        want.append((name, ctypes.sizeof(struct)))
        for field in struct._fields_:
            lines.append(f'printf("%zu\\n", offsetof({name}, {field[0]}));')
            want.append((f"{name}.{field[0]}", getattr(struct, field[0]).offset))
    source = tmp_path / "layout.c"
    source.write_text("#include <lowbit/lowbit.h>\n#include <stdio.h>\nint main(void) {\n" + "\n".join(lines) + "\n}\n")
    subprocess.run([compiler, f"-I{include}", str(source), "-o", str(tmp_path / "layout")], check=True)
    output = subprocess.run([str(tmp_path / "layout")], check=True, capture_output=True, text=True).stdout
    got = [(name, int(number)) for (name, _), number in zip(want, output.split())]
    assert got == want


def test_statuses_are_the_headers() -> None:
    header = ROOT / "include/lowbit/status.h"
    if not header.exists():
        pytest.skip("no headers")
    values = [int(v) for v in re.findall(r"^    LB_[A-Z]+ = (\d+)", header.read_text(), re.M)]
    assert values == [status.value for status in lowbit.Status]


def test_settings_are_fields() -> None:
    fields = {name for name, *_ in _c.QuantizeOptions._fields_}
    settings = set(_jobs.QuantizeSettings.__annotations__)
    named = {"struct_size", "model", "output", "format", "calibration", "layer_rules", "layer_rule_count", "resume",
             "dry_run", "progress"}  # fmt: skip
    assert settings | named == fields and not settings & named


def test_version_is_the_packages() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        assert version("lowbit") == lowbit.__version__
    except PackageNotFoundError:
        pytest.skip("not installed: run from the source tree")


def test_the_readmes_example_runs_as_it_is_written(folder: Path, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
    assert blocks
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "notes.txt").write_text("the cat and the hat in the thin tin. " * 40)
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bits per weight" in done.stdout and "perplexity" in done.stdout


def test_types_are_checked(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    package = Path(lowbit.__file__).parent
    assert (package / "py.typed").exists()
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, "-p", "lowbit"],
                          cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "MYPYPATH": str(package.parent) if "site-packages" not in str(package) else ""})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
