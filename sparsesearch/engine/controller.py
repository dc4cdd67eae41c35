"""The controller: what a search is, on one page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.config import RunConfig, dump_config, with_absolute_paths
from sparsesearch.engine.ladder import Ladder
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.engine.launch.prepare import Launch, check_disk, prepare, reopen, spared_blocks_note
from sparsesearch.engine.learning import learn
from sparsesearch.engine.seeds import seed_genomes
from sparsesearch.engine.session import SearchSession
from sparsesearch.engine.stores import ensure_store, ensure_teacher
from sparsesearch.engine.supernet_training import ensure_supernet
from sparsesearch.engine.workers import executor as executors
from sparsesearch.engine.workers.executor import Executor, alive
from sparsesearch.engine.workers.worker import WorkerSetup
from sparsesearch.errors import problem
from sparsesearch.evaluation.evaluator import minibatch
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.runs.versions import versions
from sparsesearch.space import Space

# What a run directory holds.
SEARCH, AUDIT = "search", "audit"


def start(launch: Launch, path: Path, reporter: Reporter) -> RunResults:
    """Run a new search in `path`; raises SparseSearchError before anything is written where it cannot run."""
    RunDirectory.check_new(path)
    check_disk(launch, path.parent)
    cluster = executors.Cluster(launch.config.executor)
    try:
        run = RunDirectory.create(path)
        with run.locked():
            RunDirectory.check_new(path)  # another search of this name may have begun and ended since the first look
            with reporter.kept_in(run.progress):
                write_launch(launch, run)
                return _run(launch, run, reporter)
    finally:
        cluster.close()


def resume(path: Path, changes: dict[str, Any], reporter: Reporter, access: Access = UNTRUSTED) -> RunResults:
    """Continue a run to the result it would have had without interruption.

    Args:
        changes: `{"search.evals": N, "executor.workers": N, ...}`; only budgets and executors may change.
        access: what the run directory cannot say.

    Raises InputError SS129 for code that is not trusted, SS602 where model, data, space or searcher are others
    by now.
    """
    run = RunDirectory.open(path)
    info = run.read(run.info)
    if info.get("kind", SEARCH) != SEARCH:
        raise problem("SS602", f"{path} is an {info['kind']}.", fix="It goes on with the command that began it.")
    launch = reopen(run, access, changes)
    changed = [k for k, v in launch.fingerprint.items() if info["fingerprint"].get(k) != v]
    if changed:
        raise problem(
            "SS602",
            f"{path}: {', '.join(changed)} changed since the run began; results would not be comparable.",
            fix="Start a new run with 'search'.",
        )
    cluster = executors.Cluster(launch.config.executor)
    try:
        with run.locked(), reporter.kept_in(run.progress):
            for role, samples in launch.samples.items():
                run.keep(role, samples)  # again, if they are damaged
            run.write_config(dump_config(launch.config))
            # A search without generations may end with fewer lines than it had.
            run.write(run.info, {key: value for key, value in info.items() if key != "lines"})
            return _run(launch, run, reporter)
    finally:
        cluster.close()


def mend(path: Path, config: RunConfig, reporter: Reporter) -> RunResults:
    """Write the small files of a run anew from its recipe, and go on with its archive.

    Raises InputError SS600 without an archive, SS602 if the archive is of another space, data or weights.
    """
    run = RunDirectory(path.resolve())
    if not run.archive.exists():
        raise problem("SS600", f"{path} has no archive.jsonl to go on with.", fix="Start a new run with 'search'.")
    launch = prepare(config, reporter=reporter)
    cluster = executors.Cluster(config.executor)
    try:
        with run.locked(), reporter.kept_in(run.progress):
            _check_costs(Archive(run.archive, writable=True), launch.space)
            write_launch(launch, run)
            return _run(launch, run, reporter, mended=True)
    finally:
        cluster.close()


def _check_costs(archive: Archive, space: Space) -> None:
    """Raise InputError SS602 if an archive's costs are not those that the space gives its genomes."""
    archive.check(space)
    for evaluation in archive.entries.values():
        costs = space.costs.named(evaluation.genome.levels)
        if any(evaluation.costs.get(name) != costs[name] for name in ("params", "macs")):
            raise problem(
                "SS602",
                f"{archive.path} is of another model or other units than the recipe.",
                fix="Give the run's own.",
            )


def _check_losses(archive: Archive, executor: Executor, config: RunConfig, pool: int, run: RunDirectory) -> None:
    """Raise InputError SS602 if a candidate's losses are not what the archive says: other data, levels or weights."""
    measured_before = [e for e in archive.entries.values() if e.status == "ok" and not e.trained]
    if not measured_before:
        return
    known = max(measured_before, key=lambda e: int(e.genome.levels.astype(bool).sum()))  # the most that can differ
    rows = minibatch(pool, known.sequences, config.search.seed, known.draw).tolist()
    (measured,) = alive(executor.map("evaluate", [(known.genome.data, rows, 0)]))
    if not np.allclose(measured.get("losses", []), known.losses, rtol=1e-3):
        run.config.unlink()  # which would make it a run
        raise problem(
            "SS602",
            f"{archive.path} was measured on other data, levels or weights than the recipe's, or with another seed.",
            fix="Give the run's own recipe.",
        )


def _run(launch: Launch, run: RunDirectory, reporter: Reporter, mended: bool = False) -> RunResults:
    """The main path: levels, teacher, search, final measurements, front."""
    with supernet(launch, run, reporter) as (space, executor, ledger, setup):
        if mended:
            _check_losses(Archive(run.archive), executor, launch.config, len(launch.samples["selection"]), run)
        seeds = seed_genomes(launch.config, space, run, executor, reporter, ledger)
        learned = learn(launch, run, space, executor, reporter, ledger)
        if note := spared_blocks_note(launch):
            reporter.message(note)
        session = SearchSession(launch, run, space, executor, reporter, ledger, seeds, learned)
        session.search()
        session.measure_finalists()
        if launch.config.search.rungs:
            session.note_reference()
            Ladder(launch, setup, run, reporter, ledger).climb(executor)
        return session.conclude()


Prepared = tuple[Space, Executor, Ledger, WorkerSetup]


@contextmanager
def supernet(launch: Launch, run: RunDirectory, reporter: Reporter, again: str = "") -> Iterator[Prepared]:
    """Workers with all levels and the teacher's outputs at hand, and the space with measured nonzeros.

    Args:
        again: what goes on after an interruption; `resume` where nothing is said.
    """
    cache, ledger = run.path.parent / ".cache", Ledger(run)
    executor = None
    try:
        ensure_supernet(launch, run, cache, reporter, ledger)
        setup = launch.setup(run, cache)
        executor = executors.create(setup)
        list(alive(executor.map("check", [()])))
        store = ensure_store(launch, setup, executor, reporter, ledger)
        space = launch.space.with_nonzeros(store.nonzeros)
        space.check()
        run.write(run.space, space.to_json())
        ensure_teacher(launch, setup, executor, reporter, ledger)
        yield space, executor, ledger, setup
    except KeyboardInterrupt:
        reporter.end("done, stopped")
        again = again or f"'sparsesearch resume {run.path}'"
        reporter.message(f"Stopped. What was measured is saved: {again} goes on.")
        raise
    finally:
        reporter.end()
        if executor is not None:
            executor.close()


def write_launch(launch: Launch, run: RunDirectory, kind: str = SEARCH) -> None:
    """What a run is made from."""
    # What a launch that was killed has left.
    shutil.rmtree(run.data, ignore_errors=True)
    for role, samples in launch.samples.items():
        run.keep(role, samples)
    run.write(run.space, launch.space.to_json())
    if launch.latency is not None:
        run.write(run.latency, launch.latency.to_json())
    run.write(run.info, _info(launch) | {"kind": kind})
    # Last, since its presence is what makes the directory a run.
    run.write_config(dump_config(with_absolute_paths(launch.config)))


def _info(launch: Launch) -> dict[str, Any]:
    return {
        "schema": 1,
        "fingerprint": launch.fingerprint,
        "objectives": launch.config.objectives,
        "selection_sequences": len(launch.samples["selection"]),
        "length": launch.samples["selection"].length,
        "calibration_tokens": launch.samples["calibration"].size,
        "model": launch.config.model.id,
        "task": launch.network.task.name,
        "blocks": len(launch.network.blocks),
        "not_searched": list(launch.network.unsearchable),
        "versions": versions(),
    }
