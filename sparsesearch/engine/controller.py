"""The controller: the phases of a search in order, and how one starts, resumes and is repaired."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.config import RunConfig, dump_config, with_absolute_paths
from sparsesearch.engine.job import Job, open_job
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.launch.plan import check_disk, prefix_cache_note
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.engine.phases.conclusion import conclude, measure_finalists, write_search_totals
from sparsesearch.engine.phases.ladder import Ladder
from sparsesearch.engine.phases.learning import learn
from sparsesearch.engine.phases.rounds import Rounds
from sparsesearch.engine.phases.seeds import seed_genomes
from sparsesearch.engine.phases.stores import ensure_store, ensure_teacher
from sparsesearch.engine.phases.supernet_training import ensure_supernet
from sparsesearch.engine.reopen import prepare_from_run
from sparsesearch.engine.workers.call_results import Measured
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import problem
from sparsesearch.evaluation.evaluator import minibatch
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.runs.versions import versions
from sparsesearch.space import Space

# Kinds of run directories.
SEARCH, AUDIT = "search", "audit"


def start(launch: Launch, path: Path, reporter: Reporter) -> RunResults:
    """Run a new search in `path`; raises SparseSearchError before anything is written if it cannot run."""
    RunDirectory.check_new(path)
    check_disk(launch, path.parent)
    run = RunDirectory(path.resolve())
    with open_job(launch, run, reporter, lambda: write_launch(launch, run), must_be_new=True) as job:
        return search(job)


def search(job: Job, check: Callable[[Job], None] | None = None) -> RunResults:
    """Run the phases of a search: supernet, levels, teacher, search, final measurements, training, front.

    Args:
        check: called as soon as candidates can be measured.
    """
    job = with_supernet(job)
    if check is not None:
        check(job)
    seeds = seed_genomes(job)
    learned = learn(job)  # nothing unless the searcher learns by gradient
    if note := prefix_cache_note(job.launch):
        job.reporter.message(note)
    rounds = Rounds(job, seeds, learned)
    rounds.run()
    measure_finalists(job, rounds)
    if job.launch.config.search.rungs:
        write_search_totals(job, rounds)
        Ladder(job).climb()
    return conclude(job, rounds)


def with_supernet(job: Job) -> Job:
    """Build supernet, levels and teacher cache if they are missing; returns the job with measured nonzeros."""
    ensure_supernet(job)
    job.executor.run(Worker.check)
    store = ensure_store(job)
    space = job.launch.space.with_nonzeros(store.nonzeros)
    space.check()
    job.run.write(job.run.space, space.to_json())
    ensure_teacher(job)
    return job.with_space(space)


def resume(path: Path, changes: dict[str, Any], reporter: Reporter, access: Access = UNTRUSTED) -> RunResults:
    """Continue a run to the result it would have had without interruption.

    Args:
        changes: `{"search.evals": N, "executor.workers": N, ...}`; only budgets and executors may change.
        access: parts of the run that its directory cannot hold.

    Raises InputError SS129 for code that is not trusted, SS602 if model, data, space or searcher have changed.
    """
    run = RunDirectory.open(path)
    info = run.read(run.info)
    if info.get("kind", SEARCH) != SEARCH:
        raise problem("SS602", f"{path} is an {info['kind']}.", fix="Continue it with the command that started it.")
    launch = prepare_from_run(run, access, changes)
    changed = [k for k, v in launch.fingerprint.items() if info["fingerprint"].get(k) != v]
    if changed:
        raise problem(
            "SS602",
            f"{path}: {', '.join(changed)} changed since the run began; results would not be comparable.",
            fix="Start a new run with 'search'.",
        )

    def write() -> None:
        for role, samples in launch.samples.items():
            run.keep(role, samples)  # writes damaged samples anew
        run.write_config(dump_config(launch.config))
        # A search without generations may end with fewer lines than it had.
        run.write(run.info, {key: value for key, value in info.items() if key != "lines"})

    with open_job(launch, run, reporter, write) as job:
        return search(job)


def repair_run(path: Path, config: RunConfig, reporter: Reporter) -> RunResults:
    """Write the small files of a run anew from its recipe, and continue from its archive.

    Raises InputError SS600 without an archive, SS602 if the archive is of another space, data or weights.
    """
    run = RunDirectory(path.resolve())
    if not run.archive.exists():
        raise problem("SS600", f"{path} has no archive.jsonl to continue from.", fix="Start a new run with 'search'.")
    launch = prepare(config, reporter=reporter)

    def write() -> None:
        _check_costs(Archive(run.archive, writable=True), launch.space)
        write_launch(launch, run)

    with open_job(launch, run, reporter, write) as job:
        return search(job, _check_losses)


def _check_costs(archive: Archive, space: Space) -> None:
    """Raise InputError SS602 if an archive's costs differ from those of its genomes in the space."""
    archive.check(space)
    for evaluation in archive.entries.values():
        costs = space.costs.named(evaluation.genome.levels)
        if any(evaluation.costs.get(name) != costs[name] for name in ("params", "macs")):
            raise problem(
                "SS602",
                f"{archive.path} is of another model or other units than the recipe.",
                fix="Give the recipe that the run was started with.",
            )


def _check_losses(job: Job) -> None:
    """Raise InputError SS602 if a candidate's losses differ from the archive's: other data, levels or weights."""
    run, config = job.run, job.launch.config
    archive = Archive(run.archive)
    candidates = [e for e in archive.entries.values() if e.status == "ok" and not e.trained]
    if not candidates:
        return
    # The candidate with the most pruned units has the most that can differ.
    archived = max(candidates, key=lambda e: int(e.genome.levels.astype(bool).sum()))
    pool = len(job.launch.samples["selection"])
    rows = minibatch(pool, archived.sequences, config.search.seed, archived.draw).tolist()
    result = job.executor.run(Worker.evaluate, archived.genome.data, rows, 0)
    if not isinstance(result, Measured) or not np.allclose(result.losses, archived.losses, rtol=1e-3):
        run.config.unlink()  # its presence would make the directory a run
        raise problem(
            "SS602",
            f"{archive.path} was measured on other data, levels or weights than the recipe's, or with another seed.",
            fix="Give the recipe that the run was started with.",
        )


def write_launch(launch: Launch, run: RunDirectory, kind: str = SEARCH) -> None:
    """Write the files that a run starts from: samples, space, latency table, `run.json` and `run.yaml`."""
    # A launch that was killed may have left some.
    shutil.rmtree(run.data, ignore_errors=True)
    for role, samples in launch.samples.items():
        run.keep(role, samples)
    run.write(run.space, launch.space.to_json())
    if launch.latency is not None:
        run.write(run.latency, launch.latency.to_json())
    run.write(run.info, _info(launch) | {"kind": kind})
    # Last, since its presence makes the directory a run.
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
