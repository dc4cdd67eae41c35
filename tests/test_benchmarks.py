"""Benchmark scripts still fit the package: each is imported, so that a name that moved is noticed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "results" / "benchmarks"
# Packages of other tools, which scripts that measure them import and nothing else does.
PEERS = ("whittle", "litgpt", "syne_tune", "modelopt", "torchprofile")
SCRIPTS = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_script_imports(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in PEERS:
            raise
        pytest.skip(f"needs {error.name}")
