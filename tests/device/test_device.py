"""Runs on a simulated accelerator find what runs on the CPU find, and wait for it no more often than today."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import kinds_of, recipe, run_search
from torch.utils import backend_registration

from sparsesearch.runs.results import RunResults

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot have a backend in Python",
)
COMMAND = Path(__file__).parent / "command.py"
ON_DEVICE = {"kind": "local", "gpus_per_worker": 1}
FAMILIES = ("llama", "qwen3_moe", "t5", "vit")


@dataclass(frozen=True)
class Done:
    """A command that ran on the device, with what was counted: (number, bytes) by event and line."""

    output: str
    counts: dict[tuple[str, str], tuple[int, int]]

    def total(self, event: str, *prefixes: str) -> int:
        """Return how often an event happened in lines of files with these prefixes; all files if there are none."""
        return sum(
            number
            for (kind, line), (number, _) in self.counts.items()
            if kind == event and (not prefixes or line.startswith(prefixes))
        )


def on_device(work: Path, *arguments: Any) -> Done:
    counts = work / "counts.json"
    command = [sys.executable, COMMAND, counts, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(counts.read_text())
    return Done(done.stdout + done.stderr, {(event, line): (number, size) for event, line, number, size in rows})


def simulated(code: str) -> str:
    """Return what a program prints on a machine with two simulated accelerators."""
    program = f"import simulated, torch\nsimulated.install(2)\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=COMMAND.parent, check=False
    )
    return (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "torch.ones(2, device='sim') + torch.ones(2)",
        "torch.ones(2, device='sim:0') + torch.ones(2, device='sim:1')",
        "torch.ones(2, 2, device='sim') @ torch.ones(2, 2)",
        "torch.ones(2, device='sim').index_select(0, torch.tensor([0]))",
        "torch.ones(2)[torch.tensor([0], device='sim')]",
        "torch.ones(2, device='sim').numpy()",
    ],
)
def test_what_a_device_refuses_is_refused(code: str) -> None:
    assert "Error" in simulated(code)


def test_copies_and_waits_are_counted() -> None:
    code = """
x = torch.ones(8).to("sim")
float(x.sum()); x.cpu(); x[x > 0]; x.to("cpu", non_blocking=True)
events = {event: numbers for (event, _), numbers in simulated.COUNTS.items()}
print(events["to device"], events["from device"], events["wait"])
"""
    assert simulated(code) == "[1, 32] [2, 64] [4, 0]"


@dataclass(frozen=True)
class Runs:
    """A run on the device, the command that made it, and the same run on the CPU."""

    on_device: RunResults
    command: Done
    on_cpu: RunResults


@pytest.fixture(scope="module")
def runs(family_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Runs]:
    made: dict[str, Runs] = {}

    def make(name: str) -> Runs:
        if name not in made:
            work, units = tmp_path_factory.mktemp(name), kinds_of(family_dir(name))
            tree = recipe(family_dir(name), units=units, executor=ON_DEVICE)
            (work / "space.yaml").write_text(yaml.safe_dump(tree))
            command = on_device(work, "search", work / "space.yaml", "--results", work, "--name", "run")
            on_cpu = run_search(work / "cpu", family_dir(name), units=units)
            made[name] = Runs(RunResults(work / "run"), command, on_cpu)
        return made[name]

    return make


@pytest.mark.parametrize("name", FAMILIES)
def test_a_search_on_a_device_finds_what_one_on_the_cpu_finds(runs: Callable[[str], Runs], name: str) -> None:
    run = runs(name)
    assert [e.genome for e in run.on_device.evaluations] == [e.genome for e in run.on_cpu.evaluations]
    qualities = [e.quality for e in run.on_cpu.evaluations]
    assert [e.quality for e in run.on_device.evaluations] == pytest.approx(qualities, rel=1e-4, abs=1e-6)
    assert run.command.total("to device") > 0


def test_training_and_proxies_work_on_a_device(runs: Callable[[str], Runs], tmp_path: Path) -> None:
    path = runs("llama").on_device.run.path
    trained = on_device(tmp_path, "recover", path, "--pick", "knee", "--tokens", 256, "--out", tmp_path / "recovered")
    assert trained.total("to device") > 0
    recipe_file = path.parent / "space.yaml"
    audit = ("--proxies", "grad_norm,snip,output_error", "--samples", 4, "--results", tmp_path, "--name", "audit")
    assert on_device(tmp_path, "audit", recipe_file, *audit).total("to device") > 0


def test_waits_and_copies_do_not_creep_up(runs: Callable[[str], Runs]) -> None:
    """Budgets are what was measured when they were set; lower them with every improvement."""
    run = runs("llama")
    measured, levels = len(run.on_device.evaluations), int(run.on_device.space.max_levels.sum())
    candidates = ("supernet/compose.py", "evaluation/", "models/task.py", "data/samples.py")
    building = ("pruning/", "supernet/build.py", "supernet/store.py")
    per_evaluation = {event: run.command.total(event, *candidates) / measured for event in ("wait", "to device")}
    per_level = {event: run.command.total(event, *building) / levels for event in ("wait", "to device", "from device")}
    assert per_evaluation["wait"] <= 42 and per_evaluation["to device"] <= 39
    assert per_level["wait"] <= 3 and per_level["to device"] <= 1.6 and per_level["from device"] <= 1.8
