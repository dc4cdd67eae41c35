"""Trackers are views: what they hold is what the run's files say, whether it was followed or read afterwards."""

from __future__ import annotations

import importlib.util
import shutil
import struct
import threading
import time
from pathlib import Path

import pytest
from support import as_if_running

from sparsesearch.errors import EnvironmentProblem, InputError
from sparsesearch.report.series import SearchSeries
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.results import RunResults
from sparsesearch.testing import check_tracker
from sparsesearch.tracking import TRACKERS, follow, open_tracker
from sparsesearch.tracking.base import Point
from sparsesearch.tracking.following import Follower

Scalars = dict[tuple[str, int], float]


@pytest.fixture
def copy(small_run: RunResults, tmp_path: Path) -> Path:
    return shutil.copytree(small_run.run.path, tmp_path / "run")


def _scalars(points: list[Point]) -> Scalars:
    return {(name, point.step): value for point in points for name, value in point.values.items()}


def _events(folder: Path) -> Scalars:
    """The scalars of TensorBoard's event files: records of a length, its checksum, an Event and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    scalars = {}
    for path in sorted(folder.glob("events*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack("<Q", data[at : at + 8])
            event, at = Event.FromString(data[at + 12 : at + 12 + size]), at + size + 16
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    scalars[value.tag, event.step] = value.simple_value
    return scalars


def test_following_gives_what_reading_afterwards_gives(small_run: RunResults, copy: Path) -> None:
    whole = Follower(small_run.run.path).new_points()
    as_if_running(copy)
    files = {name: (copy / name).read_text().splitlines(True) for name in ("archive.jsonl", "ledger.jsonl")}
    for name in files:
        (copy / name).write_text("")
    follower, scalars = Follower(copy), []
    for count in (1, 2, 5, 11, 10_000):
        for name, lines in files.items():
            (copy / name).write_text("".join(lines[:count]))
        scalars += follower.new_points()
    assert _scalars(scalars) == _scalars(whole)
    assert len(scalars) == len(whole)


def test_tensorboard_holds_the_series_and_is_made_anew(copy: Path) -> None:
    results, series = RunResults(copy), SearchSeries(RunResults(copy))
    expected = {
        (name, number): value
        for number, evaluation in enumerate(results.evaluations, 1)
        for name, value in series.add(evaluation).items()
    }
    for _ in range(2):
        tracker = open_tracker("tensorboard", results)
        follow(copy, tracker, watch=False)
        scalars = _events(copy / "tensorboard")
        assert {key: value for key, value in scalars.items() if key[0] != "evaluations_per_second"} == {
            key: pytest.approx(value, rel=1e-6) for key, value in expected.items()
        }
    assert str(copy / "tensorboard") in tracker.location


def test_watching_ends_when_nobody_works_on_the_run(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsesearch.tracking.following.SECONDS_BETWEEN_READS", 0.01)
    archive = copy / "archive.jsonl"
    text = archive.read_text()
    archive.write_text("")
    as_if_running(copy)
    counted: list[int] = []
    tracker = open_tracker("tensorboard", RunResults(copy))
    with RunDirectory(copy).locked():
        thread = threading.Thread(target=lambda: counted.append(follow(copy, tracker, watch=True)))
        thread.start()
        time.sleep(0.1)
        archive.write_text(text)
        assert not counted
    thread.join(10)
    assert counted == [len(Follower(copy).new_points())]


@pytest.fixture
def anonymous(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is logged in anywhere."""
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(copy))


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.usefixtures("anonymous")
def test_conformance(copy: Path, name: str) -> None:
    pytest.importorskip(TRACKERS[name].package)
    check_tracker(name, RunResults(copy))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
@pytest.mark.usefixtures("anonymous")
def test_other_trackers(copy: Path, name: str) -> None:
    pytest.importorskip(TRACKERS[name].package)
    for _ in range(2):
        follow(copy, open_tracker(name, RunResults(copy)), watch=False)
    if name == "wandb":
        assert len(list((copy / "wandb").glob("offline-run-*/*.wandb"))) == 2
        return
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{copy.parent}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'sparsesearch'")
    (run,) = client.search_runs([experiment.experiment_id])
    volumes = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "hypervolume")}
    expected = {step: v for (n, step), v in _scalars(Follower(copy).new_points()).items() if n == "hypervolume"}
    assert volumes == pytest.approx(expected)
    assert run.data.params["searcher"] == "random"


def test_what_is_not_there_is_said_in_one_line(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"SS102 to \(--to\) 'mlfow': unknown tracker. Did you mean 'mlflow'"):
        open_tracker("mlfow", RunResults(copy))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"SS307.*pip install 'sparsesearch\[wandb\]'"):
        open_tracker("wandb", RunResults(copy))
    assert not (copy / "wandb").exists()
