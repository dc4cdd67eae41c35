"""From a checked launch to its elastic supernet: sorted once, trained if wanted, shared by all runs that want it."""

from __future__ import annotations
from sparsesearch.engine.workers.process import peak_bytes

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.launch.supernet_plan import (
    cached_samples,
    check_weights,
    steps_of,
    supernet_note,
    trained_tokens,
    training_samples,
)
from sparsesearch.engine.stores import ensure_store, sole_builder
from sparsesearch.engine.workers import executor as executors
from sparsesearch.engine.workers.executor import Executor, alive
from sparsesearch.engine.workers.supernet_worker import SupernetWorker
from sparsesearch.engine.workers.setup import WorkerSetup
from sparsesearch.files import file_hash, write_json
from sparsesearch.runs.cache import INDEX, SORTED, USAGE, read_index, started, supernet_path, weights_of
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import TRAINING_PASSES, Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.training.activations import shards

# Seconds that a worker trains before it says how far it is.
SLICE = 10.0
# What is needed only until the supernet is there.
SCAFFOLDING = ("blocks", "activations", "checkpoints")


def ensure_supernet(launch: Launch, run: RunDirectory, cache: Path, reporter: Reporter, ledger: Ledger) -> None:
    """Build the supernet of a launch where it is not there yet; nothing where it has none."""
    if not launch.supernet:
        return
    directory = supernet_path(cache, launch.supernet)
    with sole_builder(directory, reporter):
        if read_index(directory) is not None:
            check_weights(directory)
            _take_down(directory)
            return
        directory.mkdir(parents=True, exist_ok=True)
        base = launch.stitched.setup(run, cache)
        setup = replace(base, config=launch.config, supernet=str(directory))
        _ensure_order(launch, base, directory, reporter, ledger)
        if launch.config.supernet.is_trained:
            reporter.message(supernet_note(launch))
        build = _block_by_block if launch.config.supernet.kind == "block_local" else _as_a_whole
        built = build(launch, setup, steps_of(launch), reporter, ledger)
        for why in built.stopped:
            reporter.message(f"SS408 supernet: {why}; what was trained before it counts.")
        _finish(launch, directory, built)
    reporter.message(f"Supernet: {directory}")


def _ensure_order(launch: Launch, base: WorkerSetup, directory: Path, reporter: Reporter, ledger: Ledger) -> None:
    """The level store whose pruners say in which order elements are sorted, where they are not yet."""
    if launch.config.supernet.start is None and not (directory / SORTED).exists():
        with _working(executors.create(base), reporter) as executor:
            list(alive(executor.map("check", [()])))
            ensure_store(launch.stitched, base, executor, reporter, ledger)


@dataclass(frozen=True)
class Built:
    """How a training ended.

    Attributes:
        tokens: of all sub-networks that were trained.
        stopped: why it ended early, where it did.
        peak_bytes: memory that a worker held at most.
    """

    tokens: int
    stopped: list[str]
    peak_bytes: int


def _finish(launch: Launch, directory: Path, built: Built) -> None:
    """Write the index, whose presence makes the directory a supernet, and take down what is not needed any more."""
    options, cuts = launch.config.supernet, [unit.name for unit in launch.space.units if unit.is_cut]
    if options.start is not None:
        cuts = sorted({*cuts, *started(options.start, launch.weights, cuts)["cuts"]})
    index = {
        "schema": 1,
        "key": launch.supernet,
        "network": launch.weights,
        "kind": options.kind,
        "cuts": cuts,
        "sha256": file_hash(weights_of(directory)),
        "tokens": built.tokens,
        "stopped": built.stopped,
    }
    write_json(directory / USAGE, {"peak_bytes": built.peak_bytes}, durable=False)
    write_json(directory / INDEX, index)
    _take_down(directory)


def _take_down(directory: Path) -> None:
    """Remove what was needed until the supernet was there."""
    for name in SCAFFOLDING:
        shutil.rmtree(directory / name, ignore_errors=True)
    (directory / SORTED).unlink(missing_ok=True)


@contextmanager
def _working(executor: Executor, reporter: Reporter) -> Iterator[Executor]:
    try:
        yield executor
    finally:
        reporter.end()
        executor.close()


def _as_a_whole(launch: Launch, setup: WorkerSetup, steps: int, reporter: Reporter, ledger: Ledger) -> Built:
    """Sort the network and train it on one worker."""
    options, stopped, step = launch.config.supernet, "", 0
    with _working(executors.create(setup, SupernetWorker), reporter) as executor:
        list(alive(executor.map("sort", [()])))
        done = not options.is_trained
        if not done:
            reporter.phase(f"supernet ({options.kind}), steps", steps)
        paid = ledger.tokens("supernet")
        while not done:
            begun = time.monotonic()
            (found,) = alive(executor.map("train", [(steps, SLICE)], 1))
            reporter.step(found["step"], f"loss {found['loss']:.4g}")
            # What a killed session of this run trained is behind the checkpoint, and perhaps not in the ledger.
            paid = paid or TRAINING_PASSES * trained_tokens(launch, 0, found["begun"])
            tokens = TRAINING_PASSES * trained_tokens(launch, 0, found["step"]) - paid
            ledger.add("supernet", time.monotonic() - begun, tokens)
            paid += tokens
            done, stopped, step = found["done"], found["stopped"], found["step"]
        held = max(executor.each("usage"))
        list(alive(executor.map("finish", [(steps,)], 1)))
    return Built(trained_tokens(launch, 0, step), [stopped] if stopped else [], held)


def _block_by_block(launch: Launch, setup: WorkerSetup, steps: int, reporter: Reporter, ledger: Ledger) -> Built:
    """Sort the network, write what its blocks see, and train them side by side."""
    samples, blocks, count = training_samples(launch), len(launch.network.blocks), cached_samples(launch)
    portions = shards(count)
    begun = time.monotonic()
    with _working(executors.create(setup, SupernetWorker), reporter) as executor:
        list(alive(executor.map("sort", [()])))
        list(alive(executor.map("arguments", [()])))
        reporter.phase("hidden states", len(portions))
        for done, _ in enumerate(alive(executor.map("shard", portions)), 1):
            reporter.step(done, "shards")
    ledger.add("hidden states", time.monotonic() - begun, count * samples.length)
    ended, begun = list[dict[str, Any]](), time.monotonic()
    # Fresh workers, which hold a block each and not the network, until blocks are put together.
    with _working(executors.create(setup, SupernetWorker), reporter) as executor:
        reporter.phase("supernet (block_local)", blocks)
        for told in alive(executor.map("block", [(b, steps, count) for b in range(blocks)])):
            ended.append(told)
            reporter.step(len(ended), "blocks")
        held = max(executor.each("usage"))
        list(alive(executor.map("finish", [(steps,)])))
    tokens = round(sum(trained_tokens(launch, 0, told["step"], b) for b, told in enumerate(ended)) / blocks)
    ledger.add("supernet", time.monotonic() - begun, TRAINING_PASSES * tokens)
    return Built(tokens, [told["stopped"] for told in ended if told["stopped"]], held)
