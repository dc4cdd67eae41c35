"""Options of every verb with values that are none: exit code 2 and one line, before anything starts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import recipe

from sparsesearch.runs.results import RunResults

LONG, NAME, LOOP = "x" * 5000, "n" * 300, "LOOP"
SEARCH = [
    ["--name", NAME],
    ["--name", "a\udcff"],
    ["--name", "a\nb"],
    ["--name", ""],
    ["--results", LOOP],
    ["--results", NAME],
    ["--hours", "inf"],
    ["--hours", "nan"],
    ["--hours", "-1"],
    ["--evals", "9" * 20],
    ["--tokens", "-3"],
    ["--seed", "9" * 23],
    ["--seed", "9" * 5000],
    ["--workers", "1000000"],
    ["--model", LONG],
    ["--model", ""],
    ["--model", "~nosuchuser/x"],
    ["--calibration", LONG],
    ["--calibration", "a\0b"],
    ["--limit", "params<=1e400"],
    ["--limit", ""],
    ["--executor", LONG],
    ["--set", "units[0].kind=x"],
    ["--set", "context=1000000000000000000"],
    ["--set", "executor.threads=1000000"],
    ["--set", "data.calibration=[]"],
    ["--set", "data.calibration.source=[]"],
    ["--set", "objectives=[kl, params, params]"],
    ["--searcher", "nsga2", "--set", "search.options={population: 100000000}"],
    ["--set", "units.0={kind: sparsity, levels: 40000}"],
    ["--set", "latency.table=TABLE"],
]
READING = [
    ["show", "RUN", "--pick", ""],
    ["show", "RUN", ""],
    ["show", "RUN", "--pick", "weights:kl=1"],
    ["show", "RUN", "--pick", LONG],
    ["show", "RUN", "\n"],
    ["resume", "RUN", "--evals", "²"],
    ["resume", "RUN", "--evals", "+" + "9" * 20],
    ["resume", "RUN", "--evals", "-1"],
    ["resume", "RUN", "--evals", ""],
    ["front", "RUN", "--where", "params<=1e400"],
    ["front", "RUN", "--sort", ""],
    ["refine", "RUN", "--rounds", "999"],
    ["refine", "RUN", "--name", NAME],
    ["recover", "RUN", "--soup", "99999999"],
    ["recover", "RUN", "--out", LOOP],
    ["report", "RUN", "RUN", "--out", LOOP],
    ["report", "RUN", "RUN", "--out", "nowhere/x.html"],
    ["space", "init", "-o", LOOP],
    ["space", "init", "-o", "OUT", "--model", "~nosuchuser"],
    ["space", "init", "-o", "OUT", "--kinds", LONG],
    ["list", LONG],
    ["front", LONG],
    ["status", LONG],
    ["compare", "FILE", "--searchers", "random", "--tokens", "999", "--seeds", "-1"],
    ["compare", "FILE", "--searchers", "random", "--tokens", "999", "--seeds", "²"],
    ["compare", "FILE", "--searchers", "random", "--tokens", "999", "--seeds", "4294967296"],
    ["compare", "FILE", "--searchers", "random", "--tokens", "999", "--option", LONG],
    ["audit", "FILE", "--samples", "1000000000000"],
    ["iterate", "FILE", "--stages", "1000000000"],
    ["iterate", "FILE", "--out", LOOP],
    ["choose", "FILE", "--pool", "1000000000000"],
    ["choose", "FILE", "--out", LOOP],
    ["latency", "FILE", "--out", LOOP],
    ["search", LONG],
    ["search", "/dev/zero"],
    ["search", LOOP],
]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_run: RunResults) -> dict[str, str]:
    """What stands for capitals among the arguments."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(recipe("demo")))
    (tmp_path / "table.json").write_text("5")
    named = {"FILE": "space.yaml", LOOP: "loop", "OUT": "out", "latency.table=TABLE": "latency.table=table.json"}
    return {**named, "RUN": str(small_run.run.path)}


@pytest.mark.parametrize(
    "arguments", [["search", "FILE", *flags] for flags in SEARCH] + READING, ids=lambda a: ascii(a)[:60]
)
def test_hostile_options(run: Any, places: dict[str, str], arguments: list[str]) -> None:
    started = time.monotonic()
    outcome = run(*(places.get(argument, argument) for argument in arguments))
    assert outcome.code == 2
    assert outcome.out == ""
    if not outcome.err.startswith("Usage"):  # what typer refuses itself
        assert outcome.err.startswith("SS")
        assert outcome.err.count("\n") == 1
        assert len(outcome.err) < 1500
    assert time.monotonic() - started < 60
