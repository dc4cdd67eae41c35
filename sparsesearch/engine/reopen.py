"""Opening an existing run, with or without the checks of a search."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sparsesearch.config import RunConfig
from sparsesearch.data import Samples
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.launch.numerics import compute_dtype
from sparsesearch.engine.launch.prepare import PythonInputs, describe_network, prepare, source_of
from sparsesearch.engine.launch.supernet_plan import check_weights
from sparsesearch.engine.workers.setup import WorkerSetup, worker_setup
from sparsesearch.errors import problem
from sparsesearch.evaluation.batchnorm import RunningStatistics
from sparsesearch.models.source import open_teacher
from sparsesearch.plugins import load_plugins
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.results import RunResults
from sparsesearch.supernet import LevelStore, StitchedSupernet


def prepare_from_run(run: RunDirectory, access: Access, changes: dict[str, Any] | None = None) -> Launch:
    """Return the launch of a run for another search with its recipe, after all checks of a search.

    Args:
        changes: values of keys that replace the recipe's.

    Raises InputError SS129 if it names code and is not trusted; also raises as `prepare` does.
    """
    inputs = PythonInputs(access.module, quality=access.quality)
    return prepare(access.config(run, changes), inputs, run)


def launch_of_run(results: RunResults, access: Access = UNTRUSTED, training: RunConfig | None = None) -> Launch:
    """Return the launch of a run from its own files, to use its candidates, without the checks of a search.

    Args:
        training: the run's recipe with other options of training.

    Raises InputError SS129 if it names code and is not trusted, SS602 if its model has changed.
    """
    run = results.run
    config = training or access.config(run)
    load_plugins(config.plugins)
    source = source_of(config, PythonInputs(access.module))
    roles = [path.name for path in sorted(run.data.iterdir()) if getattr(config.data, path.name, None) is not None]
    samples: dict[str, Samples] = {role: run.samples(role) for role in roles}
    calibration = samples["calibration"] if source.task.name == "module" else None
    network, outputs = describe_network(config, source, calibration, repeatable=False)
    launch = Launch(
        config=config,
        source=source,
        network=network,
        space=results.space,
        samples=samples,
        storage_bytes=source.storage.itemsize,
        dtype=str(compute_dtype(config, source.storage)),
        quality=access.quality,
        teacher=open_teacher(config.model, network),
        supernet_key=results.info["fingerprint"].get("supernet", ""),
        outputs=outputs,
    )
    if launch.weights != results.info["fingerprint"]["weights"]:
        raise problem("SS602", f"{run.path}: the model is not the one that was searched.", fix="Give the same one.")
    return launch


@dataclass(frozen=True)
class ReopenedRun:
    """A finished run with the caches that its candidates are made from.

    Attributes:
        setup: setup of workers, with absolute paths of the caches.
        store: level store, compared with its checksums.
    """

    results: RunResults
    launch: Launch
    setup: WorkerSetup
    store: LevelStore

    @cached_property
    def supernet(self) -> StitchedSupernet:
        """All candidates, in float32 on the CPU."""
        launch = self.launch
        model = self.setup.source.load(torch.float32, "cpu")
        compensate = launch.config.pruners.compensate
        return StitchedSupernet(model, launch.network, self.results.space, self.store.files, compensate=compensate)

    @cached_property
    def norms(self) -> RunningStatistics:
        """Correction of the batch normalisation of candidates, as the search applied it before measuring them."""
        config = self.launch.config
        samples = self.launch.samples["calibration"].rows(slice(0, config.data.batch_norm))
        return RunningStatistics(self.supernet, self.launch.network.task, samples, config.batch)


def open_run(results: RunResults, access: Access = UNTRUSTED, training: RunConfig | None = None) -> ReopenedRun:
    """Open a finished run to make its candidates again; its caches are compared with their checksums once.

    Args:
        training: as for `launch_of_run`.

    Raises InputError SS129 if it names code and is not trusted, SS505 if a cache is gone, SS602 if its model has
    changed, DamagedFile SS306.
    """
    launch = launch_of_run(results, access, training)
    run = results.run
    setup = worker_setup(launch, run)
    for name, path in (("level store", setup.store), ("supernet", setup.supernet_directory)):
        if path and not (Path(path) / "index.json").exists():
            text = f"the run's {name} {path} is gone."
            raise problem("SS505", text, fix=f"'sparsesearch resume {run.path}' rebuilds it.")
    if setup.supernet_directory:
        check_weights(Path(setup.supernet_directory))
    return ReopenedRun(results, launch, setup, LevelStore.open(Path(setup.store), launch.store_key))
