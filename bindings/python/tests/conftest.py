# SPDX-License-Identifier: MIT
from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402


@pytest.fixture(scope="session")
def weights() -> tiny.Weights:
    return tiny.make_weights(3)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, weights: tiny.Weights) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny.save(path, weights)
    return path


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"the cat and the hat number {i} in the thin tin. " for i in range(60)))
    return path
