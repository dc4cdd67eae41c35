"""What another process sees of a run: running, busy, finished, interrupted, failed, killed."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support import as_if_running, rewritten

from sparsesearch import pareto
from sparsesearch.errors import InputError
from sparsesearch.report.series import SearchSeries, evaluation_rates
from sparsesearch.report.status import status_json, status_view
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults


@pytest.fixture
def copy(small_run: RunResults, tmp_path: Path) -> Path:
    return shutil.copytree(small_run.run.path, tmp_path / "run")


def _say(path: Path, **changes: Any) -> None:
    rewritten(path / "progress.json", lambda kept: kept.update(changes))


def _shown(path: Path) -> str:
    console = Console(width=150, force_terminal=False)
    with console.capture() as capture:
        console.print(status_view(status_json(path)), soft_wrap=True)
    return capture.get()


def test_a_finished_run(small_run: RunResults) -> None:
    status = status_json(small_run.run.path)
    assert status["state"] == "finished"
    assert status["controller"] is None
    assert status["evaluations"]["done"] == small_run.info["search_evaluations"] == status["evaluations"]["budget"]
    assert status["evaluations"]["measured"] == len(small_run.evaluations)
    assert status["hypervolume"] == small_run.hypervolume()
    assert status["best"]["kl"]["id"] == small_run.pick("min:kl").genome.id
    assert "finished" in _shown(small_run.run.path)


def test_running_busy_and_killed(copy: Path) -> None:
    now = 1_000_000_000.0
    _say(copy, state="running", phase="search (random)", done=9, total=12, first=3, first_at=now, updated=now + 2)
    assert status_json(copy)["state"] == "crashed"
    assert f"continue with 'sparsesearch resume {copy}'" in _shown(copy)
    assert "stopped in" in _shown(copy)
    with RunDirectory(copy).locked():
        status = status_json(copy)
        assert status["state"] == "running"
        assert status["controller"] == f"pid {os.getpid()} on {socket.gethostname()}"
        assert status["phase"]["done"] == 9
        assert status["eta_seconds"] == pytest.approx((12 - 9) / ((9 - 3) / 2))
        assert "search (random): 9 of 12" in _shown(copy)
        _say(copy, state="finished")
        assert status_json(copy)["state"] == "busy"
    assert status_json(copy)["state"] == "finished"


def test_who_holds_the_lock(tmp_path: Path) -> None:
    run, owner = RunDirectory(tmp_path), tmp_path / "run.lock.owner"
    assert run.holder() is None
    with run.locked():
        assert run.holder() == owner.read_text()
    # What kill -9 leaves; and when the number is another process's by now.
    for pid in (2**22 + 1, os.getpid()):
        owner.write_text(f"pid {pid} on {socket.gethostname()}")
        assert run.holder() is None
    with run.locked():
        owner.write_text("pid 1 on elsewhere")
        assert run.holder() == "pid 1 on elsewhere"


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [(KeyboardInterrupt(), "interrupted", ""), (ValueError("no disk"), "failed", "no disk")],
)
def test_how_a_controller_ended(copy: Path, error: BaseException, state: str, words: str) -> None:
    reporter = Reporter(quiet=True)
    with pytest.raises(type(error)), reporter.writing_to(copy / "progress.json"):
        reporter.phase("levels", 8)
        reporter.step(3)
        raise error
    status = status_json(copy)
    assert (status["state"], status["stopped_in"], status["error"] or "") == (state, "levels", words)
    reporter.phase("later", 1)
    assert status_json(copy)["stopped_in"] == "levels", "only while it is kept"


def test_a_run_that_has_measured_nothing_yet(copy: Path) -> None:
    for name in ("archive.jsonl", "ledger.jsonl", "front.json", "progress.json", "trained.jsonl"):
        (copy / name).unlink(missing_ok=True)
    as_if_running(copy)
    status = status_json(copy)
    assert (status["state"], status["front"], status["hypervolume"], status["best"]) == ("interrupted", 0, None, {})
    assert "nothing measured within params<=97% yet" in _shown(copy)


def test_a_torn_archive_is_read_and_left_alone(copy: Path) -> None:
    archive = copy / "archive.jsonl"
    lines = archive.read_text().splitlines()
    archive.write_text("\n".join(lines[:9]) + "\n" + lines[9][:30])
    as_if_running(copy)
    before = archive.read_bytes()
    assert status_json(copy)["evaluations"]["measured"] == 9
    assert archive.read_bytes() == before


def test_only_searches_have_a_status(copy: Path, tmp_path: Path) -> None:
    rewritten(copy / "run.json", lambda info: info.update(kind="audit"))
    with pytest.raises(InputError, match="SS602"):
        status_json(copy)
    with pytest.raises(InputError, match="SS600"):
        status_json(tmp_path)


def test_series_say_what_brute_force_says(small_run: RunResults) -> None:
    series, pool = SearchSeries(small_run), small_run.info["selection_sequences"]
    for evaluation in small_run.evaluations:
        values = series.add(evaluation)
    searched = [e for e in small_run.evaluations if e.sequences < pool]
    starting = [e for e in searched if e.origin.startswith(("dense", "uniform"))]
    inside = [e for e in searched if small_run.space.feasible(e.genome) and e.genome != small_run.space.dense]
    reference = np.max([small_run.point(e) for e in starting], axis=0)
    assert series.reference == reference.tolist()
    volume = pareto.hypervolume([small_run.point(e) for e in inside], reference)
    assert volume > 0
    assert values["hypervolume"] == pytest.approx(volume)
    assert values["best_kl"] == min(e.quality for e in inside)
    assert values["tokens"] == small_run.tokens


def test_rates_count_evaluations_alone() -> None:
    lines = [
        {"phase": "evaluation", "seconds": 2.0, "count": 8},
        {"phase": "searcher", "seconds": 1.0, "count": 1},
        {"phase": "evaluation", "seconds": 0.5, "count": 1},
    ]
    assert evaluation_rates(lines) == [(8, 4.0), (9, 2.0)]
