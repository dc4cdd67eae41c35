"""The controller: what a search is, on one page."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from sparsesearch.config import RunConfig, SearchConfig, dump_config, load_config, with_absolute_paths
from sparsesearch.engine import executors
from sparsesearch.engine.archive import Archive, Key, key_of
from sparsesearch.engine.directory import RunDirectory
from sparsesearch.engine.executors import Executor, WorkerDied
from sparsesearch.engine.launch import Launch, check_disk, prepare
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.results import RunResults
from sparsesearch.engine.versions import versions
from sparsesearch.engine.worker import WorkerSetup
from sparsesearch.errors import InfeasibleError, InputError, SparseSearchError
from sparsesearch.evaluation.evaluator import minibatch, quality_of
from sparsesearch.evaluation.teacher import Teacher
from sparsesearch.searchers import Evaluation, Proposal, Searcher, create
from sparsesearch.space import Space
from sparsesearch.space.sampling import starting_genomes
from sparsesearch.supernet import LevelStore

# Evaluations when neither the user nor the searcher sets an end.
DEFAULT_EVALS = 300
# Below this many evaluations, failures are not yet a verdict on the whole run.
FAILURES_MATTER = 20
# A search that proposes nothing new for this many generations has seen its space.
IDLE_GENERATIONS = 20


def start(launch: Launch, path: Path, reporter: Reporter) -> RunResults:
    """Run a new search in `path`; raises SparseSearchError before anything is written where it cannot run."""
    RunDirectory.check_new(path)
    check_disk(launch, path.parent)
    cluster = executors.Cluster(launch.config.executor)
    try:
        run = RunDirectory.create(path)
        with run.locked():
            for role, tokens in launch.tokens.items():
                np.save(run.tokens / f"{role}.npy", tokens)
            run.write(run.space, launch.space.to_json())
            run.write(run.info, _info(launch))
            # Last, since its presence is what makes the directory a run.
            run.write_config(dump_config(with_absolute_paths(launch.config)))
            return _run(launch, run, reporter)
    finally:
        cluster.close()


def resume(path: Path, changes: dict[str, Any], reporter: Reporter) -> RunResults:
    """Continue a run to the result it would have had without interruption.

    Args:
        changes: `{"search.evals": N, "executor.workers": N, ...}`; only budgets and executors may change.

    Raises InputError SS602 where model, data, space or searcher are not what they were.
    """
    run = RunDirectory.open(path)
    info = run.read(run.info)
    config = load_config(run.config, changes)
    launch = prepare(config, saved=run)
    changed = [k for k, v in launch.fingerprint.items() if info["fingerprint"].get(k) != v]
    if changed:
        raise InputError(
            "SS602", f"{path}: {', '.join(changed)} changed since the run began; results would not be comparable.",
            "Start a new run with 'search'.",
        )  # fmt: skip
    cluster = executors.Cluster(config.executor)
    try:
        with run.locked():
            run.write_config(dump_config(config))
            return _run(launch, run, reporter)
    finally:
        cluster.close()


def _run(launch: Launch, run: RunDirectory, reporter: Reporter) -> RunResults:
    """The main path: levels, teacher, search, final measurements, front."""
    setup = launch.setup(run, run.path.parent / ".cache")
    executor = executors.create(setup)
    ledger = Ledger(run)
    try:
        store = ensure_store(launch, setup, executor, reporter, ledger)
        space = launch.space.with_nonzeros(store.nonzeros)
        space.check()
        run.write(run.space, space.to_json())
        ensure_teacher(launch, setup, executor, reporter, ledger)
        search = Search(launch, run, space, executor, reporter, ledger)
        search.loop()
        search.measure_finalists()
        return search.conclude()
    finally:
        reporter.end()
        executor.close()


def ensure_store(
    launch: Launch, setup: WorkerSetup, executor: Executor, reporter: Reporter, ledger: Ledger
) -> LevelStore:
    """Open the level store, building what is missing of it, in parallel over blocks."""
    directory, key = Path(setup.store), launch.store_key
    blocks = [(block,) for block in range(len(launch.architecture.blocks))]

    def phase(method: str, name: str, tokens: int, lanes: int | None = None) -> None:
        started = time.monotonic()
        reporter.phase(name, len(blocks))
        for done, _ in enumerate(_alive(executor.map(method, blocks, lanes)), 1):
            reporter.step(done, "blocks")
        ledger.add(name, time.monotonic() - started, tokens)

    with _sole_builder(directory, reporter):
        if not (directory / "index.json").exists():
            with _sole_builder(Path(setup.statistics), reporter):
                phase("collect", "calibration statistics", launch.tokens["calibration"].size, lanes=1)
            phase("build", "levels", 0)
            list(_alive(executor.map("finish_store", [(key,)])))
            reporter.end()
    return LevelStore.open(directory, key)


@contextlib.contextmanager
def _sole_builder(directory: Path, reporter: Reporter) -> Iterator[None]:
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
    directory, tokens, batch = Path(setup.teacher), launch.tokens["selection"], launch.config.batch
    with _sole_builder(directory, reporter):
        if (directory / "complete").exists():
            return
        started = time.monotonic()
        Teacher.create(directory, tokens, launch.architecture.vocabulary)
        portions = [(i, min(i + batch, len(tokens))) for i in range(0, len(tokens), batch)]
        reporter.phase("teacher cache", len(portions))
        for done, _ in enumerate(_alive(executor.map("fill_teacher", portions)), 1):
            reporter.step(done, "batches")
        reporter.end()
        (directory / "complete").touch()
        ledger.add("teacher cache", time.monotonic() - started, tokens.size)


def _alive(results: Any) -> Any:
    for result in results:
        if isinstance(result, WorkerDied):
            raise SparseSearchError("SS400", f"{result}.", "Is there enough memory? Try fewer --workers.")
        yield result


class Search:
    """One session of the search itself."""

    def __init__(
        self, launch: Launch, run: RunDirectory, space: Space, executor: Executor, reporter: Reporter, ledger: Ledger
    ) -> None:
        self.launch, self.run, self.space = launch, run, space
        self.executor, self.reporter, self.ledger = executor, reporter, ledger
        self.config: RunConfig = launch.config
        self.archive = Archive(run.archive, writable=True)
        self.pool, self.length = launch.tokens["selection"].shape
        search = self.config.search
        self.searcher: Searcher = create(search.searcher, space, self.config.objectives, search.seed, search.options)
        self.budget = Budget(search, self.searcher, ledger, self.archive)
        self._failures = sum(e.status != "ok" for e in self.archive.entries.values())

    def loop(self) -> None:
        """Ask, evaluate, tell, record, until the searcher or the budget ends it."""
        total, idle = self.budget.evals, 0
        self.reporter.phase(f"search ({self.config.search.searcher})", total)
        while idle < IDLE_GENERATIONS and (proposals := self.searcher.ask(1_000_000)):
            before = self.budget.used_evals
            affordable = self.budget.admit([(p, self._key(p)) for p in proposals], self.length)
            self.searcher.tell(self.evaluate(affordable))
            if len(affordable) < len(proposals):
                break
            idle = idle + 1 if self.budget.used_evals == before else 0
        self.reporter.end()

    def measure_finalists(self) -> None:
        """Measure dense, the uniform baselines and the searcher's best on all selection data."""
        wanted = {genome: name for name, genome in starting_genomes(self.space).items()}
        for evaluation in self.searcher.best.values():
            if evaluation.origin.startswith("uniform"):
                wanted.setdefault(evaluation.genome, evaluation.origin)
        for genome in self.searcher.finalists(self.config.search.final):
            wanted.setdefault(genome, "final")
        proposals = [Proposal(genome, 0, 0, origin) for genome, origin in wanted.items()]
        self.reporter.phase("final measurement", len(proposals))
        self.evaluate(proposals, origins=True)
        self.reporter.end()

    def conclude(self) -> RunResults:
        """Write the reference point (kept once it is there), the front and test perplexities."""
        results = RunResults(self.run.path)
        if not results.final:
            raise InfeasibleError("SS406", "no candidate could be evaluated.", f"See {self.run.archive}.")
        known = {"reference": results.reference(), "search_evaluations": self.budget.used_evals}
        self.run.write(self.run.info, results.info | known)
        results = RunResults(self.run.path)
        if "test" in self.launch.tokens:
            self._test(results)
        self.run.write(self.run.front, results.front_json())
        return results

    def evaluate(self, proposals: Sequence[Proposal], origins: bool = False) -> list[Evaluation]:
        """Evaluations of proposals in order; what the archive has is not measured again."""
        keys = [self._key(p) for p in proposals]
        missing = {k: p for k, p in zip(keys, proposals, strict=True) if k not in self.archive.entries}
        calls = [(p.genome.data, self._sequences(p).tolist()) for p in missing.values()]
        results = self.executor.map("evaluate", calls)
        done = len(proposals) - len(missing)
        for proposal, key in zip(missing.values(), missing, strict=True):
            started = time.monotonic()
            result = next(results)
            evaluation = self._evaluation(proposal, key, result)
            self.archive.append(evaluation)
            self.ledger.add("evaluation", time.monotonic() - started, evaluation.sequences * self.length, quiet=True)
            done += 1
            self._note(evaluation, done if origins else self.budget.used_evals - len(proposals) + done)
        self.ledger.flush("evaluation")
        found = [self.archive.entries[k] for k in keys]
        return [replace(e, draw=p.draw) for e, p in zip(found, proposals, strict=True)]

    def _key(self, proposal: Proposal) -> Key:
        sequences = len(self._sequences(proposal))
        # With all sequences every draw is the same.
        return proposal.genome, 0 if sequences == self.pool else proposal.draw, sequences

    def _sequences(self, proposal: Proposal) -> np.ndarray[Any, np.dtype[np.int64]]:
        need = math.ceil(proposal.tokens / self.length) if proposal.tokens else self.pool
        return minibatch(self.pool, min(need, self.pool), self.config.search.seed, proposal.draw)

    def _evaluation(self, proposal: Proposal, key: Key, result: Any) -> Evaluation:
        costs = self.space.costs.named(proposal.genome.levels)
        common: dict[str, Any] = {
            "genome": proposal.genome, "draw": key[1], "sequences": key[2], "origin": proposal.origin, "costs": costs,
        }  # fmt: skip
        error = str(result) if isinstance(result, WorkerDied) else result.get("error", "")
        if error:
            return Evaluation(status="failed", quality=math.nan, error=error, **common)
        losses = np.array(result["losses"])
        quality = quality_of(losses, self.config.objectives[0])
        status: Any = "ok" if math.isfinite(quality) else "invalid"
        return Evaluation(status=status, quality=quality, losses=tuple(losses.tolist()), **common)

    def _note(self, evaluation: Evaluation, done: int) -> None:
        if evaluation.status != "ok":
            self._failures += 1
            self.reporter.message(
                f"SS402 candidate {evaluation.genome.id}: {evaluation.error or 'quality is not finite'}; "
                "kept out of the front."
            )
            total = len(self.archive.entries)
            if total >= FAILURES_MATTER and self._failures > total / 2:
                raise SparseSearchError(
                    "SS403", f"{self._failures} of {total} candidates failed; the run stops.",
                    f"The last: {evaluation.error or 'quality is not finite'}",
                )  # fmt: skip
        failed = f"  failed {self._failures}" if self._failures else ""
        self.reporter.step(done, f"last {self.config.objectives[0]} {evaluation.quality:.4g}{failed}")

    def _test(self, results: RunResults) -> None:
        """Perplexity on the test text of dense, the picks and the uniform baselines at the limits; each only once."""
        known: dict[str, float] = json.loads(self.run.test.read_text()) if self.run.test.exists() else {}
        wanted = [results.dense, *results.picks().values(), *(b for b in results.baselines if "@" not in b.origin)]
        genomes = {e.genome.id: e.genome for e in wanted if e is not None and e.genome.id not in known}
        self.reporter.phase("test perplexity", len(genomes))
        values = self.executor.map("perplexity", [(genome.data, "test") for genome in genomes.values()])
        for done, (identity, value) in enumerate(zip(genomes, _alive(values), strict=True), 1):
            if value is not None:
                known[identity] = value
            self.reporter.step(done)
        self.reporter.end()
        self.run.write(self.run.test, known)


class Budget:
    """Counts evaluations and tokens the same way in a first session and in a replay."""

    def __init__(self, search: SearchConfig, searcher: Searcher, ledger: Ledger, archive: Archive) -> None:
        limited = search.evals or search.tokens or search.hours or searcher.ends_by_itself
        self.evals = search.evals if limited else DEFAULT_EVALS
        self.tokens, self.hours, self._ledger, self._archive = search.tokens, search.hours, ledger, archive
        self.used_evals = self.used_tokens = 0
        self._charged: set[Key] = set()

    def admit(self, proposals: Sequence[tuple[Proposal, Key]], length: int) -> list[Proposal]:
        """The first proposals that the budget still covers; each measurement is charged once."""
        admitted = []
        for proposal, key in proposals:
            if key not in self._charged:
                tokens = self.used_tokens + key[2] * length
                over_evals = self.evals is not None and self.used_evals >= self.evals
                over_tokens = self.tokens is not None and tokens > self.tokens
                # Time only counts for what has yet to be measured: a replay takes in all there is.
                over_time = key not in self._archive.entries and self._out_of_time()
                if over_evals or over_tokens or over_time:
                    break
                self._charged.add(key)
                self.used_evals, self.used_tokens = self.used_evals + 1, tokens
            admitted.append(proposal)
        return admitted

    def _out_of_time(self) -> bool:
        return self.hours is not None and self._ledger.seconds() > self.hours * 3600


class Ledger:
    """Seconds and tokens by phase, a JSON line each; beside the archive, since time is never the same twice."""

    def __init__(self, run: RunDirectory) -> None:
        self._path = run.ledger
        self._open: dict[str, list[float]] = {}
        self._before = sum(float(entry["seconds"]) for entry in read_ledger(run))
        self._started = time.monotonic()

    def add(self, phase: str, seconds: float, tokens: int, quiet: bool = False) -> None:
        """Note work; with `quiet` it is written with the next `flush` of the phase."""
        entry = self._open.setdefault(phase, [0.0, 0, 0])
        entry[0] += seconds
        entry[1] += tokens
        entry[2] += 1
        if not quiet:
            self.flush(phase)

    def flush(self, phase: str) -> None:
        """Write what was noted of a phase."""
        seconds, tokens, count = self._open.pop(phase, [0.0, 0, 0])
        if count:
            with self._path.open("a") as file:
                line = {"phase": phase, "seconds": round(seconds, 3), "tokens": int(tokens), "count": int(count)}
                file.write(json.dumps(line) + "\n")

    def seconds(self) -> float:
        """Seconds of the phases that earlier sessions finished, and wall-clock seconds of this one."""
        return self._before + time.monotonic() - self._started


def read_ledger(run: RunDirectory) -> list[dict[str, Any]]:
    """The ledger's lines; what a crash tore is left out."""
    entries = []
    for line in run.ledger.read_text().splitlines() if run.ledger.exists() else []:
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def _info(launch: Launch) -> dict[str, Any]:
    return {
        "schema": 1,
        "fingerprint": launch.fingerprint,
        "objectives": launch.config.objectives,
        "selection_sequences": len(launch.tokens["selection"]),
        "length": int(launch.tokens["selection"].shape[1]),
        "calibration_tokens": int(launch.tokens["calibration"].size),
        "model": launch.config.model.id,
        "blocks": len(launch.architecture.blocks),
        "versions": versions(),
    }


__all__ = ["Budget", "Ledger", "Search", "key_of", "read_ledger", "resume", "start"]
