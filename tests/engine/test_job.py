"""How a run is carried: what is made once, what is put back, and that Python and the shell do the same."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from support import recipe, run_search

import sparsesearch as ss
from sparsesearch.api import Run
from sparsesearch.engine import controller, job, reopen
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.models.source import Checkpoint
from sparsesearch.report.status import status_json, status_view
from sparsesearch.runs.progress import Reporter
from sparsesearch.searchers import Searcher
from sparsesearch.supernet import store as store_module

Counts = Counter[str]
Make = Callable[[str], Path]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """How often expensive or shared things were made, by name."""
    made: Counts = Counter()

    def count(owner: Any, name: str, label: str = "") -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def counted(*args: Any, **keywords: Any) -> Any:
            made[label or name] += 1
            return original(*args, **keywords)

        monkeypatch.setattr(owner, name, counted)

    for module in (job, reopen):
        count(module, "worker_setup")
    count(store_module, "check_units", "store checked")
    count(Checkpoint, "load", "model loaded")
    count(Searcher, "__init__", "searchers")
    return made


def test_a_search_makes_its_setup_once_and_its_searcher_twice(family_dir: Make, tmp_path: Path, counts: Counts) -> None:
    """One searcher answers the checks before anything runs, on nominal costs; the other searches."""
    run_search(tmp_path / "run", family_dir("llama"))
    assert counts["worker_setup"] == 1
    assert counts["searchers"] == 2
    assert counts["model loaded"] == 1


def test_the_front_is_recovered_from_one_opened_run(
    family_dir: Make, tmp_path: Path, counts: Counts, quick_exports: None
) -> None:
    """Candidates are exported from the network, the level store and its checksums that were read once."""
    results = run_search(tmp_path / "run", family_dir("llama"))
    run = Run(results, TRUSTED)
    counts.clear()
    assert len(results.front) > 2
    reports = run.recover(list(results.front), tmp_path / "out", tokens=64, changes={"training.batch": 2}, quiet=True)
    assert len(reports) == len(results.front)
    assert counts["store checked"] == 1
    assert counts["searchers"] == 0
    # One supernet for all exports, one in the worker that trains.
    assert counts["model loaded"] == 2
    counts.clear()
    for number, candidate in enumerate(results.front[:2]):
        run.export(candidate, tmp_path / f"export{number}", "zeros")
    assert counts["store checked"] == 1
    assert counts["model loaded"] == 1


def files_of(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


def test_python_and_the_shell_leave_the_same_files(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparsesearch import cli

    tree = recipe(family_dir("llama"))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(tree))
    arguments = ["search", str(tmp_path / "space.yaml"), "--results", str(tmp_path / "shell"), "--name", "run"]
    monkeypatch.setattr(sys, "argv", ["sparsesearch", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    run = ss.search(tmp_path / "space.yaml", results=tmp_path / "python", name="run", quiet=True)
    shell = tmp_path / "shell" / "run"
    assert files_of(run.path) == files_of(shell)
    assert {"report.html", "front.png"} <= set(files_of(shell))
    assert (run.path / "archive.jsonl").read_bytes() == (shell / "archive.jsonl").read_bytes()
    page = (run.path / "report.html").stat()
    longer = run.resume(evals=18, quiet=True)
    assert len(longer.results.evaluations) > len(run.results.evaluations) - 1
    assert (run.path / "report.html").stat().st_mtime_ns > page.st_mtime_ns, (
        "a resumed run has a report of all it knows"
    )


def test_a_failed_candidate_keeps_its_traceback_in_a_file_that_status_names(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparsesearch.evaluation import Evaluator

    losses, calls = Evaluator.losses, Counter[str]()

    def sometimes(self: Any, *arguments: Any) -> Any:
        calls["losses"] += 1
        if calls["losses"] == 4:
            raise RuntimeError("broken for once")
        return losses(self, *arguments)

    monkeypatch.setattr(Evaluator, "losses", sometimes)
    results = run_search(tmp_path / "run", family_dir("llama"))
    (failure,) = results.lines(results.run.failures)
    assert failure["error"] == "RuntimeError: broken for once"
    assert "in sometimes" in failure["traceback"]
    assert failure["id"] in {e.genome.id for e in results.evaluations if e.status == "failed"}
    status = status_json(results.run.path)
    assert status["failures"] == str(results.run.failures)
    output = io.StringIO()
    Console(width=400, file=output).print(status_view(status), soft_wrap=True)
    assert f"tracebacks in {results.run.failures}" in output.getvalue()


def test_the_callers_process_is_as_it_was(family_dir: Make, tmp_path: Path) -> None:
    """Threads, environment, the path of imports and progress bars belong to the caller."""
    from transformers.utils import logging

    def state() -> tuple[Any, ...]:
        return torch.get_num_threads(), dict(os.environ), list(sys.path), logging.is_progress_bar_enabled()

    torch.set_num_threads(2)
    logging.enable_progress_bar()
    before = state()
    results = run_search(tmp_path / "run", family_dir("llama"))
    controller.resume(results.run.path, {"search.evals": 14}, Reporter(quiet=True))
    assert state() == before


def test_a_users_origin_decides_nothing(family_dir: Make, tmp_path: Path) -> None:
    """Origins are labels: only roles make a baseline or a final measurement, and they are kept in the archive."""
    from sparsesearch.runs.archive import from_json, to_json
    from sparsesearch.searchers import Evaluation
    from sparsesearch.space import Genome

    costs = {"params": 1, "nonzeros": 1}
    for origin, role in (("uniform mix", "search"), ("finalist", "search"), ("random", "final"), ("dense", "baseline")):
        evaluation = Evaluation(Genome.of([0]), 1, 0, origin, "ok", 1.0, costs, (1.0,), role=role)  # type: ignore[arg-type]
        line = to_json(evaluation)
        assert from_json(line).role == role
        assert ("role" in line) == (origin != "dense"), "lines of earlier versions stay as they were"
