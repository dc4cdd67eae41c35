"""What all runs of one results directory share: level stores and teacher caches, each built once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sparsesearch.engine.executors import Executor, alive
from sparsesearch.engine.launch import Launch
from sparsesearch.engine.ledger import Ledger
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.worker import WorkerSetup
from sparsesearch.evaluation import quality_class
from sparsesearch.supernet import LevelStore


def ensure_store(
    launch: Launch, setup: WorkerSetup, executor: Executor, reporter: Reporter, ledger: Ledger
) -> LevelStore:
    """Open the level store, building what is missing of it, in parallel over blocks."""
    directory, key = Path(setup.store), launch.store_key
    blocks = [(block,) for block in range(len(launch.network.blocks))]

    def phase(method: str, name: str, tokens: int, lanes: int | None = None) -> None:
        started = time.monotonic()
        reporter.phase(name, len(blocks))
        for done, _ in enumerate(alive(executor.map(method, blocks, lanes)), 1):
            reporter.step(done, "blocks")
        ledger.add(name, time.monotonic() - started, tokens)

    with sole_builder(directory, reporter):
        if not (directory / "index.json").exists():
            with sole_builder(Path(setup.statistics), reporter):
                phase("collect", "calibration statistics", launch.samples["calibration"].size, lanes=1)
                if launch.needs_gradients:
                    list(alive(executor.map("collect_gradients", [()])))
            phase("build", "levels", 0)
            list(alive(executor.map("finish_store", [(key,)])))
            reporter.end()
    return LevelStore.open(directory, key)


@contextlib.contextmanager
def sole_builder(directory: Path, reporter: Reporter) -> Iterator[None]:
    """Hold a shared cache: of two runs that need the same one, the second waits for the first to build it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory.with_name(directory.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.message(f"Waiting for another run that builds {directory}.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def ensure_teacher(launch: Launch, setup: WorkerSetup, executor: Executor, reporter: Reporter, ledger: Ledger) -> None:
    """Fill the teacher cache where it is not there yet, in parallel over sequences."""
    directory, samples, batch = Path(setup.teacher), launch.samples["selection"], launch.config.batch
    with sole_builder(directory, reporter):
        if (directory / "complete").exists():
            return
        started = time.monotonic()
        network = launch.network
        quality_class(launch.config.objectives[0]).create(directory, samples, network.output_shape(samples.length))
        portions = [(i, min(i + batch, len(samples))) for i in range(0, len(samples), batch)]
        reporter.phase("teacher cache", len(portions))
        for done, _ in enumerate(alive(executor.map("fill_teacher", portions)), 1):
            reporter.step(done, "batches")
        reporter.end()
        (directory / "complete").touch()
        ledger.add("teacher cache", time.monotonic() - started, samples.size)
