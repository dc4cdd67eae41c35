"""Models that can be evaluated: a directory, hub id, export or candidate, and the dense network of a pruned one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparsesearch.config import FACTORY, ImageConfig, ModelConfig
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.engine.launch.identity import weights_in
from sparsesearch.engine.reopen import open_run
from sparsesearch.errors import InputError, problem
from sparsesearch.export.forms.graphs import GRAPHS, Graph
from sparsesearch.export.loading import MANIFEST, load, read_manifest
from sparsesearch.export.verify_in_process import counts
from sparsesearch.export.write import trained_weights
from sparsesearch.models.source import open_source
from sparsesearch.models.task import TASKS, Task
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.tensors import read_tensors
from sparsesearch.training.trainer import RETRAIN


@dataclass(frozen=True)
class Target:
    """A float32 model, its task, the directory of its tokenizer or image settings, and options of its images."""

    model: Any
    task: Task
    directory: Path | None
    image: ImageConfig | None = None

    def report(self) -> dict[str, int]:
        if isinstance(self.model, Graph):  # weights of a graph may be folded into others
            return self.model.counts
        return counts(self.model)


@dataclass(frozen=True)
class Dense:
    """The network that a model was pruned from: its name in recipes, and the hash of its weights."""

    model: ModelConfig
    weights: str
    trusted: bool = False

    def locate(self) -> LocatedTarget | None:
        """Return where the network is; None if it is missing or has changed."""
        if (
            FACTORY.fullmatch(self.model.id) and not self.trusted
        ):  # a file names the code, which runs only if it is trusted
            return None
        try:
            source = open_source(self.model)
        except InputError:
            return None
        name = f"dense ({self.model.id})"
        same = source.weights_hash == weights_in(self.weights)
        return LocatedTarget(name, source.task, _loader(source)) if same else None


@dataclass(frozen=True)
class LocatedTarget:
    """A target that was found but not loaded.

    Attributes:
        dense: the dense network of a model that was pruned by sparsesearch, else None.
        graph: whether it is an exported graph instead of a PyTorch model.
    """

    name: str
    task: Task
    load: Callable[[], Target]
    dense: Dense | None = None
    graph: bool = False


def locate(target: str, access: Access = UNTRUSTED) -> LocatedTarget:
    """Find the model that a directory, an export, a hub id, a factory, `demo`, or RUN/ID names.

    Raises InputError SS504 for a run, SS129 for a candidate of one that names code and is not trusted.
    """
    path = Path(target).expanduser()
    if (path / MANIFEST).is_file():
        manifest = read_manifest(path)
        image, task = manifest["image"], TASKS[manifest["task"]]
        dense = Dense(ModelConfig(id=manifest["model"]), manifest["weights_sha256"], access.trusted)

        def load_export() -> Target:
            return Target(load(path, torch.float32, trust_remote_code=access.trusted), task, path, image)

        return LocatedTarget(target, task, load_export, dense, manifest["form"] in GRAPHS)
    if not path.exists() and RunDirectory.is_there(path.parent):
        results = RunResults(path.parent)
        candidate = results.find(path.name)
        dense = Dense(access.config(results.run).model, results.info["fingerprint"]["weights"], access.trusted)
        return LocatedTarget(target, TASKS[results.info["task"]], lambda: _candidate(results, candidate, access), dense)
    if RunDirectory.is_there(path):
        raise problem(
            "SS504", f"{path} is a run.", fix=f"Name a candidate, as {path}/ID. See: sparsesearch front {path}"
        )
    source = open_source(ModelConfig(id=target))
    return LocatedTarget(target, source.task, _loader(source))


def open_target(target: str, access: Access = UNTRUSTED) -> Target:
    """Locate and load a model; raises as `locate` does."""
    return locate(target, access).load()


def _loader(source: Any) -> Callable[[], Target]:
    return lambda: Target(source.load(torch.float32, "cpu"), source.task, source.directory)


def _candidate(results: RunResults, candidate: Evaluation, access: Access) -> Target:
    """Return a candidate with the weights of its highest rung; raises InputError SS501 if these are not kept."""
    reopened, genome = open_run(results, access), candidate.genome
    weights = trained_weights(results, candidate)
    state = None if weights is None else read_tensors(weights, RETRAIN)
    with reopened.supernet.with_trained_weights(genome, state):
        model = reopened.supernet.materialise(genome)
    if weights is None:
        reopened.norms.correct(model, genome)
    source, image = reopened.launch.source, reopened.launch.config.data.calibration.image
    return Target(model, source.task, source.directory, image)
