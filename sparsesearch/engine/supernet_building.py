"""From a checked launch to its elastic supernet: sorted once, trained if wanted, shared by all runs that want it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sparsesearch.engine import executors
from sparsesearch.engine.budget import GRADIENT
from sparsesearch.engine.caches import ensure_store, sole_builder
from sparsesearch.engine.directory import RunDirectory
from sparsesearch.engine.executors import Executor, alive
from sparsesearch.engine.launch import Launch
from sparsesearch.engine.ledger import Ledger
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.supernet_checks import (
    cached_samples,
    steps_of,
    supernet_note,
    trained_tokens,
    training_samples,
)
from sparsesearch.engine.supernet_worker import SupernetWorker
from sparsesearch.engine.supernets import INDEX, SORTED, supernet_path
from sparsesearch.engine.worker import WorkerSetup
from sparsesearch.supernet.build import write_json
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
        if (directory / INDEX).exists():
            return
        directory.mkdir(parents=True, exist_ok=True)
        base = launch.stitched.setup(run, cache)
        setup = replace(base, config=launch.config, supernet=str(directory))
        _ensure_order(launch, base, directory, reporter, ledger)
        if launch.config.supernet.is_trained:
            reporter.message(supernet_note(launch))
        build = _block_by_block if launch.config.supernet.kind == "block_local" else _as_a_whole
        steps = steps_of(launch.config.supernet, training_samples(launch))
        built = build(launch, setup, steps, reporter, ledger)
        for why in built.stopped:
            reporter.message(f"SS408 supernet: {why}; what was trained before it counts.")
        _finish(launch, directory, steps, built)
    reporter.message(f"Supernet: {directory}")


def _ensure_order(launch: Launch, base: WorkerSetup, directory: Path, reporter: Reporter, ledger: Ledger) -> None:
    """The level store whose pruners say in which order elements are sorted, where they are not yet."""
    if launch.config.supernet.start is None and not (directory / SORTED).exists():
        with _working(executors.create(base), reporter) as executor:
            ensure_store(launch.stitched, base, executor, reporter, ledger)


@dataclass(frozen=True)
class Built:
    """How a training ended: why it did so early, where it did, and what a worker held at most."""

    stopped: list[str]
    peak_bytes: int


def _finish(launch: Launch, directory: Path, steps: int, built: Built) -> None:
    """Write the index, whose presence makes the directory a supernet, and take down what is not needed any more."""
    options = launch.config.supernet
    index = {
        "schema": 1, "key": launch.supernet, "network": launch.weights, "kind": options.kind,
        "tokens": trained_tokens(launch, 0, steps), "stopped": built.stopped, "peak_bytes": built.peak_bytes,
    }  # fmt: skip
    write_json(directory / INDEX, index)
    for name in SCAFFOLDING:
        shutil.rmtree(directory / name, ignore_errors=True)
    (directory / SORTED).unlink()


@contextmanager
def _working(executor: Executor, reporter: Reporter) -> Iterator[Executor]:
    try:
        yield executor
    finally:
        reporter.end()
        executor.close()


def _as_a_whole(launch: Launch, setup: WorkerSetup, steps: int, reporter: Reporter, ledger: Ledger) -> Built:
    """Sort the network and train it on one worker."""
    options, stopped = launch.config.supernet, ""
    with _working(executors.create(setup, SupernetWorker), reporter) as executor:
        list(alive(executor.map("sort", [()])))
        reporter.phase(f"supernet ({options.kind}), steps", steps)
        done = not options.is_trained
        while not done:
            started = time.monotonic()
            (found,) = alive(executor.map("train", [(steps, SLICE)], 1))
            reporter.step(found["step"], f"loss {found['loss']:.4g}")
            tokens = trained_tokens(launch, found["begun"], found["step"])
            ledger.add("supernet", time.monotonic() - started, GRADIENT * tokens)
            done, stopped = found["done"], found["stopped"]
        held = max(executor.each("usage"))
        list(alive(executor.map("finish", [(steps,)], 1)))
    return Built([stopped] if stopped else [], held)


def _block_by_block(launch: Launch, setup: WorkerSetup, steps: int, reporter: Reporter, ledger: Ledger) -> Built:
    """Sort the network, write what its blocks see, and train them side by side."""
    options, samples, blocks = launch.config.supernet, training_samples(launch), len(launch.network.blocks)
    count = cached_samples(options, samples)
    portions = shards(count)
    started = time.monotonic()
    with _working(executors.create(setup, SupernetWorker), reporter) as executor:
        list(alive(executor.map("sort", [()])))
        list(alive(executor.map("arguments", [()])))
        reporter.phase("hidden states", len(portions))
        for done, _ in enumerate(alive(executor.map("shard", portions)), 1):
            reporter.step(done, "shards")
    ledger.add("hidden states", time.monotonic() - started, count * samples.length)
    stopped, started = list[str](), time.monotonic()
    # Fresh workers, which hold a block each and not the network, until blocks are put together.
    with _working(executors.create(setup, SupernetWorker), reporter) as executor:
        reporter.phase("supernet (block_local)", blocks)
        for done, why in enumerate(alive(executor.map("block", [(b, steps, count) for b in range(blocks)])), 1):
            stopped.append(why)
            reporter.step(done, "blocks")
        held = max(executor.each("usage"))
        list(alive(executor.map("finish", [(steps,)])))
    ledger.add("supernet", time.monotonic() - started, GRADIENT * trained_tokens(launch, 0, steps))
    return Built([why for why in stopped if why], held)
