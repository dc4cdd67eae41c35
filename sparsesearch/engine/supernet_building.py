"""From a checked launch to its elastic supernet: sorted once, trained if wanted, shared by all runs that want it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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
    networks_a_step,
    steps_of,
    supernet_note,
    training_samples,
)
from sparsesearch.engine.supernet_worker import SupernetWorker
from sparsesearch.engine.supernets import INDEX, supernet_path
from sparsesearch.engine.worker import WorkerSetup
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
        if not (directory / "sorted.safetensors").exists():
            if launch.config.supernet.start is None:
                with _working(executors.create(base), reporter) as executor:
                    ensure_store(launch.stitched, base, executor, reporter, ledger)
            with _working(executors.create(setup, SupernetWorker), reporter) as executor:
                list(alive(executor.map("sort", [()])))
        stopped = _trained(launch, setup, reporter, ledger)
        steps = steps_of(launch.config.supernet, training_samples(launch))
        index = {
            "schema": 1, "key": launch.supernet, "network": launch.weights, "kind": launch.config.supernet.kind,
            "steps": steps if launch.config.supernet.is_trained else 0, "stopped": stopped,
        }  # fmt: skip
        (directory / "index.tmp").write_text(json.dumps(index, indent=1))
        (directory / "index.tmp").replace(directory / INDEX)
        for name in SCAFFOLDING:
            shutil.rmtree(directory / name, ignore_errors=True)
        (directory / "sorted.safetensors").unlink()
    reporter.message(f"Supernet: {directory}")


@contextmanager
def _working(executor: Executor, reporter: Reporter) -> Iterator[Executor]:
    try:
        yield executor
    finally:
        reporter.end()
        executor.close()


def _trained(launch: Launch, setup: WorkerSetup, reporter: Reporter, ledger: Ledger) -> list[str]:
    """Train what is sorted and write what came of it; why some of it ended early."""
    options, samples = launch.config.supernet, training_samples(launch)
    steps = steps_of(options, samples)
    if options.is_trained:
        reporter.message(supernet_note(launch))
    if options.kind == "block_local":
        stopped = _block_by_block(launch, setup, steps, reporter, ledger)
        with _working(executors.create(setup, SupernetWorker), reporter) as executor:
            list(alive(executor.map("finish", [(steps,)])))
        return stopped
    with _working(executors.create(setup, SupernetWorker), reporter) as executor:
        stopped = _as_a_whole(launch, executor, steps, reporter, ledger) if options.is_trained else []
        list(alive(executor.map("finish", [(steps,)], 1)))
    return stopped


def _as_a_whole(launch: Launch, executor: Executor, steps: int, reporter: Reporter, ledger: Ledger) -> list[str]:
    options, length = launch.config.supernet, training_samples(launch).length
    reporter.phase(f"supernet ({options.kind}), steps", steps)
    each, paid = networks_a_step(options) * options.training.batch * length, None
    while True:
        started = time.monotonic()
        (found,) = alive(executor.map("train", [(steps, SLICE)], 1))
        reporter.step(found["step"], f"loss {found['loss']:.4g}")
        done = found["step"] - (found["begun"] if paid is None else paid)
        ledger.add("supernet", time.monotonic() - started, GRADIENT * done * each)
        paid = found["step"]
        if found["done"]:
            return _told([found["stopped"]], reporter)


def _block_by_block(launch: Launch, setup: WorkerSetup, steps: int, reporter: Reporter, ledger: Ledger) -> list[str]:
    options, samples, blocks = launch.config.supernet, training_samples(launch), len(launch.network.blocks)
    count = cached_samples(options, samples)
    started, portions = time.monotonic(), shards(count)
    with _working(executors.create(setup, SupernetWorker), reporter) as executor:
        list(alive(executor.map("arguments", [()])))
        reporter.phase("hidden states", len(portions))
        for done, _ in enumerate(alive(executor.map("shard", portions)), 1):
            reporter.step(done, "shards")
    ledger.add("hidden states", time.monotonic() - started, count * samples.length)
    stopped, started = list[str](), time.monotonic()
    # Fresh workers, which hold a block and never the network.
    with _working(executors.create(setup, SupernetWorker), reporter) as executor:
        reporter.phase("supernet (block_local)", blocks)
        for done, why in enumerate(alive(executor.map("block", [(b, steps, count) for b in range(blocks)])), 1):
            stopped.append(why)
            reporter.step(done, "blocks")
    tokens = steps * networks_a_step(options) * options.training.batch * samples.length
    ledger.add("supernet", time.monotonic() - started, GRADIENT * tokens)
    return _told(stopped, reporter)


def _told(stopped: list[str], reporter: Reporter) -> list[str]:
    found = [why for why in stopped if why]
    for why in found:
        reporter.message(f"SS408 supernet: {why}; what was trained before it counts.")
    return found
