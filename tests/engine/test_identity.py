"""What names a network: its weights and what it does with them, alike in every process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from own import Texts, small
from support import run_search
from torch import nn

import sparsesearch as ss
from sparsesearch.data import Samples
from sparsesearch.engine.launch.identity import _hash, agree, check_same, identity, module_outputs, weights_in
from sparsesearch.engine.workers.setup import load_network
from sparsesearch.errors import InputError
from sparsesearch.models.load import weights_hash
from sparsesearch.models.source import Factory, ModuleSource
from sparsesearch.models.task import TASKS

TESTS = Path(__file__).parents[1]
NUMBERS = torch.randn(24, 8, generator=torch.Generator().manual_seed(3))
SAMPLES = Samples({"0": NUMBERS.numpy()})
TASK = TASKS["module"]
RECIPE: dict[str, Any] = {
    "units": [{"kind": "channels", "levels": 3}],
    "objectives": ["kl", "params"],
    "batch": 8,
    "data": {"batch_norm": 16, "allow_shared": True},
    "search": {"searcher": "random", "evals": 6},
    "executor": {"kind": "local"},
}


def search(module: nn.Module, place: Path, name: str) -> ss.Run:
    data = {"calibration": NUMBERS, "selection": NUMBERS}
    return ss.search(module, RECIPE, data=data, results=place, name=name, quiet=True)


def name_of(module: nn.Module, samples: Samples = SAMPLES) -> str:
    source = ModuleSource(module)
    return identity(source, module_outputs(source, TASK, samples))


class Scaled(nn.Module):
    """Its state is its layers; what it does with them is said elsewhere."""

    scale = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.power = small(), 1
        self.register_buffer("shift", torch.zeros(4), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (self.layers(x) * self.scale + self.shift) ** self.power  # type: ignore[operator]
        return out


def edited_forward(self: Any, x: torch.Tensor) -> Any:
    return torch.tanh(self.layers(x))


CHANGES: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda module: setattr(module, "power", 3),
    "of the class": lambda module: setattr(module, "scale", 5.0),
    "buffer that is not saved": lambda module: module.shift.fill_(0.1),
    "forward": lambda module: setattr(module, "forward", edited_forward.__get__(module)),
    "a part's forward": lambda module: setattr(module.layers, "1", nn.ReLU6()),
    "slightly": lambda module: setattr(module, "scale", 1.003),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_module_does_with_its_weights_names_it(change: str) -> None:
    before, module = name_of(Scaled()), Scaled()
    assert name_of(module) == before
    CHANGES[change](module)
    after = name_of(module)
    assert after != before
    if change != "a part's forward":  # which its text shows
        assert weights_in(after) == weights_in(before)


def test_an_edited_forward_is_judged_by_itself(tmp_path: Path) -> None:
    search(Scaled(), tmp_path, "before")
    module = Scaled()
    module.scale = 5.0
    run = search(module, tmp_path, "after")
    clean = search(module, tmp_path / "elsewhere", "after")
    assert run.results.dense is not None
    assert run.results.dense.quality < 1e-5
    assert run.results.run.archive.read_bytes() == clean.results.run.archive.read_bytes()
    with pytest.raises(InputError, match=r"SS602 .* weights changed"):
        ss.Run.open(tmp_path / "before", module=module).resume(8)
    assert ss.Run.open(tmp_path / "after", module=module).resume(8).results.dense


@given(st.integers(0, 2**32 - 1))
def test_rounding_far_below_the_step_rarely_changes_a_name(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = rng.normal(size=(4, 1, 10)).astype(np.float32)
    moved = (known * (1 + 1e-7 * rng.normal(size=known.shape))).astype(np.float32)
    assert agree(moved, known, 1e-3)
    assert _hash(known) == _hash(known.copy())
    assert _hash(known) != _hash(known * np.float32(1.01))


SCRIPT = """
import torch, sys
from own import Texts
from sparsesearch.data import Samples
from sparsesearch.engine.launch.identity import identity, module_outputs
from sparsesearch.models.source import ModuleSource
from sparsesearch.models.task import TASKS
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
source = ModuleSource(Texts())
tokens = torch.randint(0, 50, (6, 12), generator=torch.Generator().manual_seed(1))
print(identity(source, module_outputs(source, TASKS["module"], Samples({"0": tokens.numpy()}))))
"""


def test_another_process_with_other_threads_gives_the_same_name() -> None:
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    names = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, threads],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        ).stdout.strip()
        for threads in ("1", "2")
    ]
    torch.manual_seed(0)
    tokens = torch.randint(0, 50, (6, 12), generator=torch.Generator().manual_seed(1))
    assert names == [name_of(Texts(), Samples({"0": tokens.numpy()}))] * 2


class Noisy(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = nn.functional.dropout(super().forward(x), 0.1)
        return out


def test_a_module_that_is_random_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(InputError, match="SS230 Noisy returns other outputs"):
        search(Noisy(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)), tmp_path, "noisy")
    assert list(tmp_path.iterdir()) == []


def test_a_factory_that_builds_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unseeded.py").write_text("from torch import nn\n\ndef net():\n    return nn.Linear(8, 4)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = Factory("unseeded:net", None, ())
    with pytest.raises(InputError, match="SS230 model factory 'unseeded:net' builds other weights at every call"):
        source.check_repeatable()
    Factory("networks:padded", None, (str(TESTS),)).check_repeatable()


def test_a_worker_with_another_network_is_refused(tmp_path: Path) -> None:
    run = search(small(), tmp_path, "run")
    from sparsesearch.config import load_config
    from sparsesearch.engine.launch.prepare import PythonInputs, prepare
    from sparsesearch.engine.workers.setup import worker_setup

    config = load_config(run.results.run.config)
    launch = prepare(config, PythonInputs(small()), run.results.run)
    setup = worker_setup(launch, run.results.run)
    assert load_network(setup, torch.float32)[0].in_features == 8
    assert load_network(setup, torch.bfloat16)[0].in_features == 8
    other = small()
    nn.init.normal_(other[0].weight)  # type: ignore[arg-type]
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(InputError, match="SS230 Sequential has other outputs in a worker"):
            load_network(replace(setup, source=ModuleSource(other)), dtype)


def test_outputs_that_are_nan_are_no_networks() -> None:
    known = np.ones((4, 1, 4), dtype=np.float32)
    assert not agree(known * np.nan, known, 0.1)
    with pytest.raises(InputError, match="SS230"):
        check_same(small(), TASK, SAMPLES, known)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_workers_of_a_cluster_are_compared_with_the_controller(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A factory whose weights depend on the process."""
    (tmp_path / "perprocess.py").write_text(
        "import os\nimport torch\nfrom torch import nn\n\ndef net():\n    torch.manual_seed(os.getpid())\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 5))\n"
    )
    from support import image_folder

    image = {"size": 4, "mean": [0.5] * 3, "std": [0.25] * 3}
    data = {
        role: {"source": str(image_folder(tmp_path / role, 8, seed)), "sequences": 8, "image": image}
        for seed, role in enumerate(("calibration", "selection"))
    }
    monkeypatch.chdir(tmp_path)
    recipe = RECIPE | {
        "model": {"id": "perprocess:net"},
        "units": [{"kind": "sparsity", "levels": 2}],
        "objectives": ["kl", "nonzeros"],
        "batch": 4,
        "data": data,
        "executor": {"kind": "ray", "workers": 2},
    }
    with pytest.raises(InputError, match="SS230 Sequential has other outputs in a worker"):
        ss.search(recipe, results=tmp_path / "results", quiet=True)


def test_code_beside_weights_names_a_checkpoint_only_where_it_runs(
    family_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(family_dir("llama"), tmp_path / "model")
    plain = weights_hash(tmp_path / "model")
    assert plain == weights_hash(tmp_path / "model", trust_remote_code=True)
    (tmp_path / "model" / "modeling_own.py").write_text("x = 1\n")
    assert weights_hash(tmp_path / "model") == plain
    first = weights_hash(tmp_path / "model", trust_remote_code=True)
    (tmp_path / "model" / "modeling_own.py").write_text("x = 2\n")
    assert len({plain, first, weights_hash(tmp_path / "model", trust_remote_code=True)}) == 3


def test_checkpoints_are_named_by_their_files_alone(family_dir: Callable[[str], Path], tmp_path: Path) -> None:
    results = run_search(tmp_path / "run", family_dir("llama"))
    known = json.loads(results.run.info.read_text())["fingerprint"]["weights"]
    assert known == weights_hash(family_dir("llama"))
