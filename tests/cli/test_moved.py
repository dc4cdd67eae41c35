"""A model's directory that was moved after a search."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import run_search

import sparsesearch as ss
from sparsesearch.errors import InputError

Make = Callable[[str], Path]


def test_resume_and_export_take_where_the_model_is_now(
    run: Any, family_dir: Make, tmp_path: Path, quick_exports: None
) -> None:
    model, other = tmp_path / "model", tmp_path / "elsewhere"
    shutil.copytree(family_dir("llama"), model)
    results = run_search(tmp_path / "run", model)
    model.rename(other)
    out, place = tmp_path / "out", results.run.path
    assert "--model" in run("export", place, "--out", out).err
    wrong = run("export", place, "--out", out, "--model", family_dir("qwen2"))
    assert wrong.code == 2, wrong.err
    assert not out.exists()
    done = run("export", place, "--out", out, "--model", other)
    assert done.code == 0, done.err
    assert "--model" in run("resume", place, "--evals", "+2").err
    done = run("resume", place, "--evals", "+2", "--model", other)
    assert done.code == 0, done.err
    # The run knows from then on.
    assert run("resume", place, "--evals", "+2").code == 0


def test_every_verb_on_a_run_takes_where_the_model_is_now(
    run: Any, family_dir: Make, tmp_path: Path, quick_exports: None
) -> None:
    before, after, text = tmp_path / "before", tmp_path / "after", tmp_path / "text.txt"
    shutil.copytree(family_dir("llama"), before)
    results = run_search(tmp_path / "run", before)
    before.rename(after)
    text.write_text("a text of some words. " * 100)
    place = results.run.path
    for call in (
        ["evaluate", place / results.pick("knee").genome.id, "--text", text, "--length", 16],
        ["latency", place],
        ["recover", place, "--tokens", 256, "--out", tmp_path / "recovered"],
        ["refine", place],
    ):
        refused = run(*call)
        assert refused.code == 2, call
        assert str(before) in refused.err
        done = run(*call, "--model", after)
        assert done.code == 0, done.err
    with pytest.raises(InputError, match="before"):
        ss.Run.open(place).export(results.pick("knee"), tmp_path / "out")
    assert ss.Run.open(place, model=after).export(results.pick("knee"), tmp_path / "out")["verified"]
