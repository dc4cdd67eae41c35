"""The setup of workers, and the network that a worker loads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparsesearch import logs
from sparsesearch.config import RunConfig
from sparsesearch.engine.launch.identity import Outputs, check_same
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.launch.numerics import worker_device
from sparsesearch.evaluation.evaluator import UserQuality
from sparsesearch.models.network import Network
from sparsesearch.models.source import Source, SupernetSource
from sparsesearch.runs.cache import weights_of
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.supernet.store import key_hash


@dataclass(frozen=True)
class WorkerSetup:
    """Everything that a worker is made from, as plain data that travels to any node.

    Attributes:
        config: configuration of the run.
        source: source of the network.
        network: description of the network, so that workers need not trace it again.
        run, store, statistics, teacher_cache: absolute directories that every worker can read.
        quality: the user's own quality, if there is one.
        teacher: source of the network that candidates are compared with; None for the network itself.
        training: role or name of the run's samples that candidates are trained on.
        supernet_directory: of the elastic supernet; empty if weights come from the level store.
        outputs: outputs of a module for the first calibration samples; None for checkpoints.
        log_level: level of the log records that workers show; 0 for none.
    """

    config: RunConfig
    source: Source
    network: Network
    run: str
    store: str
    statistics: str
    teacher_cache: str
    quality: UserQuality | None = None
    teacher: Source | None = None
    training: str = "calibration"
    supernet_directory: str = ""
    outputs: Outputs | None = None
    log_level: int = 0


def load_network(setup: WorkerSetup, dtype: torch.dtype) -> Any:
    """Load the dense network; raises InputError SS230 if it differs from the one that the search was started with."""
    model = setup.source.load(dtype, worker_device(setup.config.executor))
    if setup.outputs is not None and not isinstance(setup.source, SupernetSource):
        check_same(model, setup.network.task, RunDirectory(Path(setup.run)).samples("calibration"), setup.outputs)
    return model


def worker_setup(launch: Launch, run: RunDirectory, training: str = "calibration") -> WorkerSetup:
    """Return the setup of a run's workers.

    Args:
        training: name under which the run holds the samples that candidates are trained on.
    """
    cache = run.cache
    store = cache.store(key_hash(launch.store_key))
    statistics = store / "statistics" if launch.statistics_key is None else cache.statistics(launch.statistics_key)
    supernet = cache.supernet(launch.supernet_key) if launch.supernet_key else None
    source, teacher = launch.source, launch.teacher
    if supernet is not None:
        source = SupernetSource(source, weights_of(supernet), launch.pruned_weights)
        teacher = teacher or launch.source
    return WorkerSetup(
        config=launch.config.model_copy(update={"pruners": launch.pruners}),
        source=source,
        network=launch.network,
        quality=launch.quality,
        teacher=teacher,
        run=str(run.path),
        store=str(store),
        statistics=str(statistics),
        teacher_cache=str(cache.teacher(launch.teacher_key)),
        training=training,
        supernet_directory=str(supernet or ""),
        outputs=launch.outputs,
        log_level=logs.level(),
    )
