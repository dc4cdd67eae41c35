"""Looking at runs from the command line and from notebooks."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import as_if_running, recipe, rewritten

import sparsesearch as ss
from sparsesearch.errors import InputError
from sparsesearch.report.journal import Mirror
from sparsesearch.runs.results import RunResults


def test_status_and_track(run: Any, small_run: RunResults, tmp_path: Path) -> None:
    path = shutil.copytree(small_run.run.path, tmp_path / "run")
    report = run("status", path, "--json").json
    assert report["state"] == "finished"
    assert report["front"] == len(small_run.front)
    assert "best kl" in run("status", path, "--watch").out, "it has ended: there is nothing to wait for"
    assert "points: " in run("track", path).out
    assert list((path / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    ("arguments", "exits", "words"),
    [
        (["status", "OUT"], 2, "SS600"),
        (["status", "RUN", "--watch", "--json"], 2, "SS101"),
        (["track", "OUT"], 2, "SS600"),
        (["track", "RUN", "--to", "tensorbord"], 2, "Did you mean 'tensorboard'"),
        (["track", "RUN", "--to", "mlflow"], 3, "pip install 'sparsesearch[mlflow]'"),
        (["dashboard", "OUT"], 2, "SS600"),
        (["dashboard", "RUN"], 3, "pip install 'sparsesearch[dashboard]'"),
    ],
)
def test_mistakes_are_one_line(
    run: Any,
    small_run: RunResults,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    exits: int,
    words: str,
) -> None:
    installed = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n in ("mlflow", "optuna_dashboard") else installed(n)
    )
    places = {"RUN": small_run.run.path, "OUT": tmp_path / "none"}
    outcome = run(*(places.get(a, a) for a in arguments))
    assert outcome.code == exits
    assert words in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_killed_search_is_seen_as_such_and_goes_on(run: Any, family_dir: Any, tmp_path: Path) -> None:
    path, where = tmp_path / "space.yaml", tmp_path / "r"
    search = {"searcher": "random", "evals": 5000, "options": {"tokens": 32}}
    path.write_text(yaml.safe_dump(recipe(family_dir("llama"), search=search)))
    code = "from sparsesearch.cli import main; main()"
    arguments = [sys.executable, "-c", code, "search", str(path), "--results", str(tmp_path), "--name", "r"]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline, report = time.monotonic() + 120, {"state": "", "evaluations": {"done": 0}}
    while time.monotonic() < deadline and not report["evaluations"]["done"]:
        time.sleep(0.3)
        if (where / "run.yaml").exists():
            report = run("status", where, "--json").json
    assert report["state"] == "running"
    assert report["controller"] == f"pid {process.pid} on {socket.gethostname()}"
    assert report["evaluations"]["budget"] == 5000
    process.send_signal(signal.SIGKILL)
    process.wait()
    report = run("status", where, "--json").json
    assert (report["state"], report["controller"], report["phase"]) == ("crashed", None, None)
    assert report["stopped_in"] == "search (random)"
    assert run("resume", where, "--evals", report["evaluations"]["done"] + 3).code == 0
    report = run("status", where, "--json").json
    assert report["state"] == "finished"
    assert report["evaluations"]["done"] == report["evaluations"]["budget"]


def test_the_mirror_follows_a_running_search(small_run: RunResults, tmp_path: Path) -> None:
    path = shutil.copytree(small_run.run.path, tmp_path / "run")
    archive = path / "archive.jsonl"
    lines = archive.read_text().splitlines(True)
    archive.write_text("".join(lines[:3]) + lines[3][:40])
    as_if_running(path)
    mirror = Mirror(RunResults(path))
    archive.write_text("".join(lines))
    mirror.update(RunResults(path))
    mirror.update(RunResults(path))
    (study,) = mirror.storage.get_all_studies()
    trials = mirror.storage.get_all_trials(study._study_id)
    inside = [e for e in small_run.evaluations if e.status == "ok" and small_run.space.feasible(e.genome)]
    assert [t.user_attrs["id"] for t in trials] == [e.genome.id for e in inside]


def test_dashboard_serves_the_mirror(
    run: Any, small_run: RunResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, served = shutil.copytree(small_run.run.path, tmp_path / "run"), []
    fake = types.ModuleType("optuna_dashboard")
    fake.run_server = lambda storage, host, port: served.append((len(storage.get_all_studies()), host, port))  # type: ignore[attr-defined]
    fake.__spec__ = importlib.util.spec_from_loader("optuna_dashboard", None)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", fake)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        outcome = run("dashboard", path, "--port", port)
        assert outcome.code == 3
        assert outcome.err.startswith(f"SS310 cannot listen on 127.0.0.1:{port}")
    assert run("dashboard", path, "--port", port).code == 0
    assert served == [(1, "127.0.0.1", port)]


def test_show_of_many_units(run: Any, small_run: RunResults, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_run.run.path
    monkeypatch.setattr("sparsesearch.cli.verbs.show.MAX_LISTED_UNITS", 0)
    assert "what each block keeps" in run("show", path).out
    assert "layers.0.mlp.ffn_width" in run("show", path, "--units").out


def test_front_is_a_sequence_with_a_table_and_a_figure(small_run: RunResults) -> None:
    run = ss.Run.open(small_run.run.path)
    front = run.front()
    assert list(front) == small_run.front
    assert front[-1] in front
    assert front[:2] == tuple(front)[:2]
    assert front.hypervolume == small_run.hypervolume()
    table = front.to_dataframe()
    assert list(table.index) == [e.genome.id for e in front]
    assert table["kl"].tolist() == [e.quality for e in front]
    for cost in small_run.space.dense_costs:
        assert table[cost].tolist() == [e.costs[cost] for e in front]
    assert table.index[table["pick"].str.contains("knee")].tolist() == [run.pick("knee").genome.id]
    for cost, shown in ((None, small_run.objectives[1]), ("macs", "macs")):
        traces = {trace.name: trace for trace in front.plot(cost).data}
        assert sorted(traces["front"].x) == sorted(e.costs[shown] for e in front)
    with pytest.raises(InputError, match="Did you mean 'params'"):
        front.plot("param")


def test_notebooks_show_runs_fronts_and_candidates(small_run: RunResults, tmp_path: Path) -> None:
    run = ss.Run.open(small_run.run.path)
    page = run._repr_html_()
    assert '<img alt="front" src="data:image/png;base64,iVBOR' in page
    assert "<script" not in page, "some places that show notebooks run none"
    table = run.front()._repr_html_()
    assert table in page
    for evaluation in run.front():
        assert f"<td>{evaluation.genome.id}</td>" in table
        assert evaluation.genome.id in evaluation._repr_html_()
    path = shutil.copytree(small_run.run.path, tmp_path / "run")
    archive = path / "archive.jsonl"
    archive.write_text("".join(archive.read_text().splitlines(True)[:2]))
    rewritten(path / "run.json", lambda info: [info.pop(key) for key in ("reference", "lines")])
    young = ss.Run.open(path)
    assert "no front yet" in young._repr_html_()
    assert len(young.front()) == 0
    assert young.front().to_dataframe().empty
