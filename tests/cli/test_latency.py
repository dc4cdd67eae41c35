"""`latency`: a table from the command line, a search with it, and what finalists take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import recipe

from sparsesearch.latency import timing

Make = Callable[[str], Path]


@pytest.fixture
def recipe_file(family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    path = tmp_path / "space.yaml"
    units = [{"kind": "ffn_width", "levels": 2}, {"kind": "drop_attention"}]
    tree = recipe(family_dir("llama"), units=units, objectives=["kl", "latency_ns"], latency={"prompt": 8})
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_table_is_measured_lent_and_verified(run: Any, recipe_file: Path, tmp_path: Path) -> None:
    table = tmp_path / "tables" / "cpu.json"
    done = run("latency", recipe_file, "--out", table)
    assert done.code == 0, done.err
    assert f"latency.table={table}" in done.out
    assert "8 tokens read" in done.out
    assert {"setting", "pieces", "dense_ns", "smallest_ns"} <= set(json.loads(table.read_text()))
    done = run("search", recipe_file, "--results", tmp_path, "--name", "r", "--set", f"latency.table={table}")
    assert done.code == 0, done.err
    assert "measuring finalists" in done.err
    assert (tmp_path / "r" / "latency_measured.json").exists()
    costs = run("front", tmp_path / "r", "--json").json["candidates"][0]["costs"]
    assert costs["latency_ns"] > 0
    assert costs["memory_bytes"] > costs["bytes"]
    done = run("latency", tmp_path / "r")
    assert "predicted" in done.out
    assert "dense" in done.out
    assert "1 thread" in done.out
    assert (elsewhere := run("latency", tmp_path / "r", "--device", "cuda")).code == 2
    assert "SS123" in elsewhere.err
    assert run("latency", tmp_path / "r", "--set", "latency.batch=2").err.startswith("SS101")
    limited = ["--results", tmp_path, "--name", "s", "--set", f"latency.table={table}", "--limit", "latency_ms<=0.001"]
    assert " 0.001 ms, the smallest candidate keeps " in run("search", recipe_file, *limited).err
    assert run("front", tmp_path / "r", "--where", "latency_ms<=99999").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "cuda"], "SS123 latency.device 'cuda' is not on this machine"),
        (["--set", "latency.batch=0"], "latency.batch"),
        (["--set", "latency.dtype=int3"], "latency.dtype"),
        (["--set", "latency.generated=9999"], "SS124"),
    ],
)
def test_what_cannot_be_measured(run: Any, recipe_file: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    out = tmp_path / "none.json"
    done = run("latency", recipe_file, "--out", out, *arguments)
    assert done.code == 2
    assert words in done.err
    assert not out.exists()


def test_a_directory_is_no_file(run: Any, recipe_file: Path, tmp_path: Path) -> None:
    done = run("latency", recipe_file, "--out", tmp_path)
    assert (done.code, "SS500" in done.err) == (2, True)
