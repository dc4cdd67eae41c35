"""The Ray executor: same bytes as local, with one or two workers, after a worker's or the controller's death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import yaml
from support import launched, recipe, run_search

from sparsesearch.config import ExecutorConfig
from sparsesearch.engine import controller
from sparsesearch.engine.workers.ray_actors import RayExecutor
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import EnvironmentProblem
from sparsesearch.runs.progress import Reporter
from sparsesearch.testing import check_executor

Make = Callable[[str], Path]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
SEARCH = {
    "searcher": "nsga2",
    "evals": 40,
    "final": 4,
    "options": {"population": 10, "offspring": 8, "tokens": 32, "sizes": 2},
}


@pytest.fixture(scope="module")
def local_bytes(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("local") / "run"
    return run_search(path, family_dir("llama"), search=SEARCH).run.archive.read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_conformance(cluster: str, tmp_path: Path, workers: int) -> None:
    config = SimpleNamespace(executor=ExecutorConfig(kind="ray", workers=workers))
    setup: Any = SimpleNamespace(run=str(tmp_path), config=config)
    check_executor(lambda worker: RayExecutor(setup, worker))


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_local_archive(
    cluster: str, family_dir: Make, tmp_path: Path, local_bytes: bytes, workers: int
) -> None:
    executor = {"kind": "ray", "workers": workers}
    results = run_search(tmp_path / "run", family_dir("llama"), search=SEARCH, executor=executor)
    assert results.run.archive.read_bytes() == local_bytes


def test_without_generations_workers_share_the_budget_and_a_death_is_survived(
    cluster: str, family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    begin = RayExecutor.stream

    def killing(self: Any, method: Any, source: Any, on_death: Any = None) -> Iterator[Any]:
        for index, result in enumerate(begin(self, method, source, on_death)):
            if index == 2 and not killed:
                killed.append(ray.get(self._actors[0].__ray_call__.remote(lambda _: os.getpid())))
                os.kill(killed[0], signal.SIGKILL)
            yield result

    monkeypatch.setattr(RayExecutor, "stream", killing)
    executor = {"kind": "ray", "workers": 2}
    search = SEARCH | {"asynchronous": True}
    results = run_search(tmp_path / "run", family_dir("llama"), search=search, executor=executor)
    assert killed
    assert results.info["search_evaluations"] == 40
    assert all(e.status == "ok" for e in results.evaluations)
    assert len(json.loads(results.run.workers.read_text())) == 2


def test_a_killed_worker_is_replaced_and_leaves_no_trace(
    cluster: str, family_dir: Make, tmp_path: Path, local_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    begin = RayExecutor.map

    def killing(self: Any, method: Any, calls: Any, lanes: int | None = None, on_death: Any = None) -> Iterator[Any]:
        for index, result in enumerate(begin(self, method, calls, lanes, on_death)):
            if method is Worker.evaluate and index == 2 and not killed:
                killed.append(ray.get(self._actors[0].__ray_call__.remote(lambda _: os.getpid())))
                os.kill(killed[0], signal.SIGKILL)
            yield result

    monkeypatch.setattr(RayExecutor, "map", killing)
    executor = {"kind": "ray", "workers": 2}
    results = run_search(tmp_path / "run", family_dir("llama"), search=SEARCH, executor=executor)
    assert killed
    assert results.run.archive.read_bytes() == local_bytes


def test_more_than_the_cluster_has_is_refused_before_anything_starts(
    cluster: str, family_dir: Make, tmp_path: Path
) -> None:
    for executor in ({"kind": "ray", "workers": 3}, {"kind": "ray", "gpus_per_worker": 1}):
        with pytest.raises(
            EnvironmentProblem, match=r"SS301 .* the cluster has 2 CPUs and 0 GPUs on 1 nodes. Nothing was started"
        ):
            controller.start(launched(family_dir("llama"), executor=executor), tmp_path / "run", Reporter(quiet=True))
    assert not (tmp_path / "run").exists()


def command(path: Path, name: str, *arguments: str) -> list[str]:
    verb = ["search", str(path / "space.yaml"), "--results", str(path), "--name", name]
    return [sys.executable, "-c", "from sparsesearch.cli import main; main()", *verb, *arguments]


def write_recipe(path: Path, model: Path, **executor: Any) -> None:
    tree = recipe(model, search=SEARCH, executor={"kind": "ray", "workers": 2, **executor})
    (path / "space.yaml").write_text(yaml.safe_dump(tree))


def test_address_joins_a_running_cluster_and_leaves_it_running(
    cluster: str, family_dir: Make, tmp_path: Path, local_bytes: bytes
) -> None:
    write_recipe(tmp_path, family_dir("llama"))
    done = subprocess.run(command(tmp_path, "run", "--address", cluster), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "archive.jsonl").read_bytes() == local_bytes
    import ray

    assert ray.is_initialized()
    assert ray.cluster_resources()["CPU"] == 2


def test_an_address_where_there_is_no_cluster(family_dir: Make, tmp_path: Path) -> None:
    write_recipe(tmp_path, family_dir("llama"))
    arguments = command(tmp_path, "run", "--address", "127.0.0.1:1")
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "SS300 cannot join the Ray cluster at '127.0.0.1:1'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_killed_controller_resumes_to_the_same_bytes(family_dir: Make, tmp_path: Path, local_bytes: bytes) -> None:
    """Also where the resumed one uses no Ray."""
    write_recipe(tmp_path, family_dir("llama"))
    archive = tmp_path / "run" / "archive.jsonl"
    process = subprocess.Popen(command(tmp_path, "run"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (archive.exists() and archive.read_bytes().count(b"\n") >= 8):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lines = archive.read_bytes().count(b"\n")
    assert 8 <= lines < local_bytes.count(b"\n"), "killed too late to show anything"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from sparsesearch.cli import main; main()",
            "resume",
            str(tmp_path / "run"),
            "--executor",
            "local",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert archive.read_bytes() == local_bytes
    assert json.loads(done.stdout)["candidates"]
