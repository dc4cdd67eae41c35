"""Caches that all runs of one results directory share: level stores and teacher caches, each built once."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sparsesearch.engine.job import Job
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import DamagedFile, machine_problem
from sparsesearch.evaluation import quality_class
from sparsesearch.files import check_inventory, inventory, read_json, write_json
from sparsesearch.logs import logger
from sparsesearch.runs.progress import Reporter
from sparsesearch.supernet import LevelStore
from sparsesearch.supernet.store import REBUILD

# File in a filled teacher cache, with its files and their checksums.
COMPLETE = "complete"


def ensure_store(job: Job) -> LevelStore:
    """Open the level store; missing statistics and levels are built first, in parallel over blocks."""
    launch, executor, reporter = job.launch, job.executor, job.reporter
    directory, key = Path(job.setup.store), launch.store_key
    blocks = [(block,) for block in range(len(launch.network.blocks))]

    def phase(method: Callable[[Worker, int], None], name: str, tokens: int, lanes: int | None = None) -> None:
        started = time.monotonic()
        reporter.phase(name, len(blocks))
        for done, _ in enumerate(executor.map(method, blocks, lanes), 1):
            reporter.step(done, "blocks")
        job.ledger.add(name, time.monotonic() - started, tokens)
        logger.info("%s in %.1f s", name, time.monotonic() - started)

    with sole_builder(directory, reporter):
        store = _intact_store(directory, key, reporter)
        if store is None or (launch.reads_statistics and not executor.run(Worker.has_statistics)):
            with sole_builder(Path(job.setup.statistics), reporter):
                phase(Worker.collect, "calibration statistics", launch.samples["calibration"].size, lanes=1)
                if launch.needs_gradients:
                    executor.run(Worker.collect_gradients)
        if store is None:
            phase(Worker.build, "levels", 0)
            executor.run(Worker.finish_store, key)
            store = LevelStore.open(directory, key)
        reporter.end()
    return store


def _intact_store(directory: Path, key: dict[str, Any], reporter: Reporter) -> LevelStore | None:
    """Return the store if it exists and is intact; of a damaged one the index is removed, so that it is built again."""
    index = directory / "index.json"
    if not index.exists():
        return None
    try:
        return LevelStore.open(directory, key)
    except DamagedFile as error:
        reporter.message(f"SS413 {error.path}: {error.reason}; the level store is built again.")
    _remove(index)
    return None


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def sole_builder(directory: Path, reporter: Reporter) -> Iterator[None]:
    """Lock a shared cache while the block runs: a second run that needs it waits until the first has built it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory.with_name(directory.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.message(f"Waiting for another run that builds {directory}.")
        lock.acquire()
    except OSError as error:
        raise machine_problem(error, f"cannot lock {lock.lock_file}") or error from None
    try:
        yield
    finally:
        lock.release()


def ensure_teacher(job: Job) -> None:
    """Fill the teacher cache if it is missing or damaged, in parallel over sequences."""
    launch, reporter = job.launch, job.reporter
    directory, samples, batch = Path(job.setup.teacher_cache), launch.samples["selection"], launch.config.batch
    with sole_builder(directory, reporter):
        if _is_filled(directory, reporter):
            return
        started = time.monotonic()
        shape = launch.network.output_shape(samples.length)
        shutil.rmtree(directory, ignore_errors=True)
        quality_class(launch.config.objectives[0]).create(directory, samples, shape)
        portions = [(i, min(i + batch, len(samples))) for i in range(0, len(samples), batch)]
        reporter.phase("teacher cache", len(portions))
        for done, _ in enumerate(job.executor.map(Worker.fill_teacher, portions), 1):
            reporter.step(done, "batches")
        reporter.end()
        write_json(directory / COMPLETE, inventory(directory), durable=False)
        job.ledger.add("teacher cache", time.monotonic() - started, samples.size)


def _is_filled(directory: Path, reporter: Reporter) -> bool:
    """Return whether a teacher cache exists and is intact."""
    if not (directory / COMPLETE).exists():
        return False
    try:
        check_teacher(directory)
    except DamagedFile as error:
        reporter.message(f"SS413 {error.path}: {error.reason}; the teacher cache is filled again.")
        return False
    return True


def check_teacher(directory: Path, thorough: bool = False) -> None:
    """Raise DamagedFile SS306 if a teacher cache is not as it was written.

    Args:
        thorough: read all files in full.
    """
    files = read_json(directory / COMPLETE, REBUILD, "SS306")
    check_inventory(directory, files, REBUILD, thorough)
