"""Tiny real models of every family, built from configs and saved as checkpoints; nothing is downloaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from support import kinds_of, recipe, run_search, saved_model
from transformers.utils import logging

from sparsesearch.export import verification, verify_in_process
from sparsesearch.runs.results import RunResults

logging.disable_progress_bar()
torch.set_num_threads(1)
# Ray makes its workers nice, so that on a machine that is busy otherwise they hardly get on.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
# Timings never decide: a busy machine is not a wrong result. The same examples every time, so that a failure repeats.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest, so that no process is alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_benchmarks.py")


@pytest.fixture(scope="session")
def family_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A saved tiny model of a family."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = saved_model(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


# Verifies export after export in one interpreter: starting one each takes longer than all the rest.
_SERVER = """
import io, sys
from contextlib import redirect_stdout
sys.path[:0] = [DIRECTORY]
import verify_in_process
for line in sys.stdin:
    out = io.StringIO()
    try:
        with redirect_stdout(out):
            verify_in_process.main(*line.rstrip("\\n").split("\\t"))
        print(out.getvalue(), flush=True)
    except Exception as error:
        print(json.dumps({"error": repr(error)}), flush=True)
"""


@pytest.fixture(scope="session")
def verifiers() -> Iterator[Callable[..., dict[str, Any]]]:
    """Replaces `verification._load_freshly`: one process for all exports that are loaded the same way."""
    code = "import json\n" + _SERVER.replace("DIRECTORY", repr(str(Path(verify_in_process.__file__).parent)))
    running: dict[str, subprocess.Popen[str]] = {}

    def load(work: Path, reference: Path, way: str) -> dict[str, Any]:
        if way not in running:
            command = [sys.executable, "-c", code]
            running[way] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process = running[way]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{work}\t{reference}\t{way}\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        assert "error" not in answer, answer
        return answer

    yield load
    for process in running.values():
        process.kill()


@pytest.fixture
def quick_exports(verifiers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are verified in a process that serves many; for tests that are about something else."""
    monkeypatch.setattr(verification, "_load_freshly", verifiers)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """One cluster for the tests of a file that may share it; its address."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield context.address_info["address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def small_run(family_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    """A finished run on the tiny Llama with all unit kinds and test data; read it, do not change it."""
    data = recipe("")["data"] | {"test": {"source": "stdlib:test", "sequences": 4, "length": 16, "take": "first"}}
    return run_search(
        tmp_path_factory.mktemp("runs") / "small",
        family_dir("llama"),
        units=kinds_of(family_dir("llama"), heads=False),
        data=data,
        limits=["params<=97%"],
    )
