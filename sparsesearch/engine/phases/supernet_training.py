"""The elastic supernet of a run: sorted once, trained if the recipe says so, shared by all runs that use it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sparsesearch.engine.job import Job
from sparsesearch.engine.launch.supernet_plan import (
    cached_samples,
    check_weights,
    steps_of,
    supernet_note,
    trained_tokens,
)
from sparsesearch.engine.phases.stores import ensure_store, sole_builder
from sparsesearch.engine.workers.executor import Executor, create_executor
from sparsesearch.engine.workers.setup import WorkerSetup, worker_setup
from sparsesearch.engine.workers.supernet_worker import BlockProgress, SupernetWorker
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.files import file_hash, write_json
from sparsesearch.runs.cache import INDEX, SORTED, USAGE, read_index, started, weights_of
from sparsesearch.runs.ledger import TRAINING_PASSES
from sparsesearch.training.activations import shards

# Seconds of training before a call reports its progress.
SECONDS_PER_CALL = 10.0
# Directories that are needed only until the supernet is complete.
INTERMEDIATE = ("blocks", "activations", "checkpoints")


def ensure_supernet(job: Job) -> None:
    """Build the supernet of a launch if it is missing; do nothing if the launch has none."""
    launch, reporter = job.launch, job.reporter
    if not launch.supernet_key:
        return
    directory = job.run.cache.supernet(launch.supernet_key)
    with sole_builder(directory, reporter):
        if read_index(directory) is not None:
            check_weights(directory)
            _remove_intermediate_files(directory)
            return
        directory.mkdir(parents=True, exist_ok=True)
        base = worker_setup(launch.stitched, job.run, job.setup.training)
        setup = replace(base, config=launch.config, supernet_directory=str(directory))
        _ensure_order(job, base, directory)
        if launch.config.supernet.is_trained:
            reporter.message(supernet_note(launch))
        build = _train_blocks if launch.config.supernet.kind == "block_local" else _train_whole
        training = build(job, setup, steps_of(launch))
        for reason in training.stopped:
            reporter.message(f"SS408 supernet: {reason}; the state before is used.")
        _finish(job, directory, training)
    reporter.message(f"Supernet: {directory}")


def _ensure_order(job: Job, base: WorkerSetup, directory: Path) -> None:
    """Build the level store whose pruners rank elements, unless these are sorted already."""
    if job.launch.config.supernet.start is None and not (directory / SORTED).exists():
        with _workers(job, base) as executor:
            executor.run(Worker.check)
            ensure_store(replace(job, launch=job.launch.stitched, setup=base, executor=executor))


@dataclass(frozen=True)
class TrainedSupernet:
    """The end of a training.

    Attributes:
        tokens: tokens of all sub-networks that were trained.
        stopped: reasons why it ended early; empty if it did not.
        peak_bytes: peak memory of a worker.
    """

    tokens: int
    stopped: list[str]
    peak_bytes: int


def _finish(job: Job, directory: Path, training: TrainedSupernet) -> None:
    """Write the index, whose presence makes the directory a supernet, and remove intermediate files."""
    launch = job.launch
    options, cuts = launch.config.supernet, [unit.name for unit in launch.space.units if unit.is_cut]
    if options.start is not None:
        cuts = sorted({*cuts, *started(options.start, launch.weights, cuts)["cuts"]})
    index = {
        "schema": 1,
        "key": launch.supernet_key,
        "network": launch.weights,
        "kind": options.kind,
        "cuts": cuts,
        "sha256": file_hash(weights_of(directory)),
        "tokens": training.tokens,
        "stopped": training.stopped,
    }
    write_json(directory / USAGE, {"peak_bytes": training.peak_bytes}, durable=False)
    write_json(directory / INDEX, index)
    _remove_intermediate_files(directory)


def _remove_intermediate_files(directory: Path) -> None:
    for name in INTERMEDIATE:
        shutil.rmtree(directory / name, ignore_errors=True)
    (directory / SORTED).unlink(missing_ok=True)


@contextmanager
def _workers(job: Job, setup: WorkerSetup, worker: type = Worker) -> Iterator[Executor]:
    """Run workers of another setup or class while the block runs."""
    executor = create_executor(setup, worker)
    try:
        yield executor
    finally:
        job.reporter.end()
        executor.close()


def _train_whole(job: Job, setup: WorkerSetup, steps: int) -> TrainedSupernet:
    """Sort the network and train it on one worker."""
    launch, reporter, ledger = job.launch, job.reporter, job.ledger
    options, stopped, step = launch.config.supernet, "", 0
    with _workers(job, setup, SupernetWorker) as executor:
        executor.run(SupernetWorker.sort)
        done = not options.is_trained
        if not done:
            reporter.phase(f"supernet ({options.kind}), steps", steps)
        recorded = ledger.tokens("supernet")
        while not done:
            begun = time.monotonic()
            (progress,) = executor.map(SupernetWorker.train, [(steps, SECONDS_PER_CALL)], 1)
            reporter.step(progress.step, f"loss {progress.loss:.4g}")
            # A killed session of this run may have trained up to the checkpoint without a line in the ledger.
            recorded = recorded or TRAINING_PASSES * trained_tokens(launch, 0, progress.begun)
            tokens = TRAINING_PASSES * trained_tokens(launch, 0, progress.step) - recorded
            ledger.add("supernet", time.monotonic() - begun, tokens)
            recorded += tokens
            done, stopped, step = progress.done, progress.stopped, progress.step
        peak_bytes = max(executor.each(SupernetWorker.usage))
        list(executor.map(SupernetWorker.finish, [(steps,)], 1))
    return TrainedSupernet(trained_tokens(launch, 0, step), [stopped] if stopped else [], peak_bytes)


def _train_blocks(job: Job, setup: WorkerSetup, steps: int) -> TrainedSupernet:
    """Sort the network, write the inputs of its blocks, and train these in parallel."""
    launch, reporter, ledger = job.launch, job.reporter, job.ledger
    samples, blocks, count = launch.training_samples, len(launch.network.blocks), cached_samples(launch)
    portions = shards(count)
    begun = time.monotonic()
    with _workers(job, setup, SupernetWorker) as executor:
        executor.run(SupernetWorker.sort)
        executor.run(SupernetWorker.write_arguments)
        reporter.phase("hidden states", len(portions))
        for done, _ in enumerate(executor.map(SupernetWorker.write_shard, portions), 1):
            reporter.step(done, "shards")
    ledger.add("hidden states", time.monotonic() - begun, count * samples.length)
    ended, begun = list[BlockProgress](), time.monotonic()
    # Fresh workers hold one block each and not the network, until the blocks are put together.
    with _workers(job, setup, SupernetWorker) as executor:
        reporter.phase("supernet (block_local)", blocks)
        for progress in executor.map(SupernetWorker.train_block, [(block, steps, count) for block in range(blocks)]):
            ended.append(progress)
            reporter.step(len(ended), "blocks")
        peak_bytes = max(executor.each(SupernetWorker.usage))
        executor.run(SupernetWorker.finish, steps)
    tokens = round(sum(trained_tokens(launch, 0, progress.step, b) for b, progress in enumerate(ended)) / blocks)
    ledger.add("supernet", time.monotonic() - begun, TRAINING_PASSES * tokens)
    return TrainedSupernet(tokens, [progress.stopped for progress in ended if progress.stopped], peak_bytes)
