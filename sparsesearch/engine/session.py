"""One session of a search: ask, evaluate, tell, record, and measure what was found."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsesearch.engine.archive import Archive, Key, key_of
from sparsesearch.engine.budget import Budget
from sparsesearch.engine.directory import RunDirectory
from sparsesearch.engine.executors import Executor, WorkerDied, alive
from sparsesearch.engine.launch import Launch
from sparsesearch.engine.ledger import Ledger
from sparsesearch.engine.memo import Memo
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.results import RunResults
from sparsesearch.errors import InfeasibleError, SparseSearchError
from sparsesearch.evaluation.evaluator import minibatch, quality_of
from sparsesearch.searchers import Evaluation, Proposal, Searcher
from sparsesearch.searchers.base import Seeds
from sparsesearch.searchers.registry import create
from sparsesearch.space import Space

Ints = npt.NDArray[np.int64]

# Below this many evaluations, failures are not yet a verdict on the whole run.
FAILURES_MATTER = 20
# Minibatches a worker measures in one call: few, so that workers end together also where candidates are few.
PORTION = 2
# A search that proposes nothing new for this many generations has seen its space.
IDLE_GENERATIONS = 20
# Origins of what is measured when a search has ended.
MEASURED_LAST = ("final", "dense", "uniform")


class SearchSession:
    """The search of one run, from where its archive stands to the front."""

    def __init__(
        self,
        launch: Launch,
        run: RunDirectory,
        space: Space,
        executor: Executor,
        reporter: Reporter,
        ledger: Ledger,
        seeds: Seeds,
    ) -> None:
        self.launch, self.run, self.space = launch, run, space
        self.executor, self.reporter, self.ledger = executor, reporter, ledger
        self.config = launch.config
        self.archive = Archive(run.archive, writable=True)
        self.pool, self.length = len(launch.samples["selection"]), launch.samples["selection"].length
        search = self.config.search
        self.searcher: Searcher = create(
            search.searcher, space, self.config.objectives, search.seed, search.options, seeds
        )
        self.budget = Budget(search, self.searcher, ledger, self.archive)
        self._failures = sum(e.status != "ok" for e in self.archive.entries.values())
        self._memo = Memo(self.pool)
        self._logged = max((line["generation"] for line in run.lines(run.generations)), default=0)

    def search(self) -> None:
        """Ask, evaluate, tell, record, until the searcher or the budget ends it."""
        self.searcher.asynchronous = self.config.search.asynchronous
        self.reporter.phase(f"search ({self.config.search.searcher})", self.budget.evals)
        if self._search_in_generations():
            self._search_steadily()
        self.reporter.end()

    def _search_in_generations(self) -> bool:
        """Whole generations, for as long as the searcher waits for them; whether the search goes on without."""
        idle = 0
        while self.searcher.waits:
            started, measured = time.monotonic(), len(self.archive.entries)
            proposals = self.searcher.ask(1_000_000)
            thought = time.monotonic() - started
            before = self.budget.used_evals, self.budget.used_tokens
            affordable = self._admitted(proposals)
            # A larger budget can go on from here.
            self.searcher.put_back(proposals[len(affordable) :])
            evaluations = self.evaluate(affordable, before[0])
            if len(self.archive.entries) > measured:  # not a replay
                self.ledger.add("searcher", thought, 0)
            self.searcher.tell(evaluations)
            self._log_generation()
            idle = idle + 1 if (self.budget.used_evals, self.budget.used_tokens) == before else 0
            if not proposals or len(affordable) < len(proposals) or idle == IDLE_GENERATIONS:
                return False
        return True

    def _search_steadily(self) -> None:
        """No generations: whatever ends is told at once, and a worker that is free gets the next child."""
        self._adopt_the_rest()
        started = time.monotonic()
        for (key, proposal), result in self.executor.stream("evaluate", self._next_call):
            evaluation = self._record(key, proposal, [result], started, self.budget.used_evals)
            started = time.monotonic()
            self._learn(evaluation)
            self.searcher.tell([self._as_asked(evaluation, proposal)])
            self._log_generation()
        self.ledger.flush("evaluation")

    def _adopt_the_rest(self) -> None:
        """What an earlier session measured without generations."""
        made = [e for k, e in self.archive.entries.items() if k not in self.budget.charged]
        rest = [e for e in made if not e.origin.startswith(MEASURED_LAST)]
        for evaluation in rest:
            self.budget.charge(key_of(evaluation), (evaluation.sequences - evaluation.known) * self.length)
            self._learn(evaluation)
        self.searcher.adopt(rest)

    def _next_call(self) -> tuple[Any, tuple[Any, ...]] | None:
        """The next child to measure; None where none is ready or the budget is spent."""
        for _ in range(IDLE_GENERATIONS):
            proposals = self.searcher.ask(1)
            if not self._admitted(proposals):
                return None
            key = self._key(proposals[0])
            if key not in self.archive.entries:
                return (key, proposals[0]), (key[0].data, self._unknown(key).tolist())
            self.searcher.tell([self._as_asked(self.archive.entries[key], proposals[0])])
        return None

    def _admitted(self, proposals: Sequence[Proposal]) -> list[Proposal]:
        """Those that the budget covers."""
        keys = [self._key(p) for p in proposals]
        return self.budget.admit(
            [(p, k, len(self._unknown(k)) * self.length) for p, k in zip(proposals, keys, strict=True)]
        )

    def _log_generation(self) -> None:
        """What the searcher says of itself, a line for each generation."""
        index, report = self.searcher.index, self.searcher.report()
        if report and index > self._logged:
            self._logged = index
            line = {"generation": index, "evaluations": self.budget.used_evals, "tokens": self.budget.used_tokens}
            self.run.append(self.run.generations, line | {k: round(v, 4) for k, v in report.items()})

    def measure_finalists(self) -> None:
        """Measure dense, the uniform baselines and the searcher's best on all selection data."""
        wanted = {genome: name for name, genome in self.searcher.starting(0).items()}
        for evaluation in self.searcher.best.values():
            if evaluation.origin.startswith("uniform"):
                wanted.setdefault(evaluation.genome, evaluation.origin)
        for genome in self.searcher.finalists(self.config.search.final):
            wanted.setdefault(genome, "final")
        proposals = [Proposal(genome, 0, 0, origin) for genome, origin in wanted.items()]
        self.reporter.phase("final measurement", len(proposals))
        self.evaluate(proposals)
        self.reporter.end()
        self._note_workers()

    def _note_workers(self) -> None:
        """What workers held in memory, and how many blocks their kept hidden states saved."""
        workers = self.executor.each("usage")
        self.run.write(self.run.workers, workers)
        text = f"Workers held up to {max((w['peak_bytes'] for w in workers), default=0) / 1e6:,.0f} MB each"
        if asked := sum(w.get("blocks_asked", 0) for w in workers):
            kept, ran = (sum(w.get(name, 0) for w in workers) for name in ("prefix_bytes", "blocks_ran"))
            text += f"; {kept / 1e6:,.0f} MB of kept hidden states spared them {1 - ran / asked:.0%} of all blocks"
        self.reporter.message(f"{text}.")

    def conclude(self) -> RunResults:
        """Write the reference point (kept once it is there), the front and test perplexities."""
        results = RunResults(self.run.path)
        if not results.final:
            raise InfeasibleError("SS406", "no candidate could be evaluated.", f"See {self.run.archive}.")
        known = {"reference": results.reference(), "search_evaluations": self.budget.used_evals}
        self.run.write(self.run.info, results.info | known)
        results = RunResults(self.run.path)
        if "test" in self.launch.samples:
            self._test(results)
        self.run.write(self.run.front, results.front_json())
        return results

    def evaluate(self, proposals: Sequence[Proposal], before: int = 0) -> list[Evaluation]:
        """Evaluations of proposals in order; what the archive has is not measured again.

        Args:
            before: steps that the current phase had done already, for progress.
        """
        keys = [self._key(p) for p in proposals]
        missing = {k: p for k, p in zip(keys, proposals, strict=True) if k not in self.archive.entries}
        portions = [self._portions(key) for key in missing]
        results = self.executor.map("evaluate", [call for calls in portions for call in calls])
        done = before + len(proposals) - len(missing)
        for (key, proposal), calls in zip(missing.items(), portions, strict=True):
            started, done = time.monotonic(), done + 1
            self._record(key, proposal, [next(results) for _ in calls], started, done)
        self.ledger.flush("evaluation")
        found = [self.archive.entries[k] for k in keys]
        # Only now, so that a resumed run knows at every generation what it knew the first time.
        for evaluation in found:
            self._learn(evaluation)
        return [self._as_asked(e, p) for e, p in zip(found, proposals, strict=True)]

    def _record(self, key: Key, proposal: Proposal, results: list[Any], started: float, done: int) -> Evaluation:
        """What workers measured, as a line of the archive and of the ledger."""
        evaluation = self._evaluation(key, proposal.origin, results)
        self.archive.append(evaluation)
        tokens = (evaluation.sequences - evaluation.known) * self.length
        self.ledger.add("evaluation", time.monotonic() - started, tokens, quiet=True)
        self._note(evaluation, done)
        return evaluation

    def _learn(self, evaluation: Evaluation) -> None:
        if evaluation.status == "ok":
            self._memo.learn(evaluation.genome, self._sequences(key_of(evaluation)), evaluation.losses)

    def _as_asked(self, evaluation: Evaluation, proposal: Proposal) -> Evaluation:
        """The evaluation with its losses in the order of the proposal's draw."""
        if evaluation.draw == proposal.draw or not evaluation.losses:
            return replace(evaluation, draw=proposal.draw)
        losses = np.empty(self.pool)
        losses[self._sequences(key_of(evaluation))] = evaluation.losses
        order = minibatch(self.pool, self.pool, self.config.search.seed, proposal.draw)
        return replace(evaluation, draw=proposal.draw, losses=tuple(losses[order].tolist()))

    def _key(self, proposal: Proposal) -> Key:
        need = math.ceil(proposal.tokens / self.length) if proposal.tokens else self.pool
        # With all sequences every draw is the same, but for their order.
        return proposal.genome, proposal.draw if need < self.pool else 0, min(need, self.pool)

    def _sequences(self, key: Key) -> Ints:
        _, draw, count = key
        return minibatch(self.pool, count, self.config.search.seed, draw)

    def _unknown(self, key: Key) -> Ints:
        """Sequences on which the genome has yet to be measured."""
        return self._memo.unknown(key[0], self._sequences(key))

    def _portions(self, key: Key) -> list[tuple[bytes, list[int]]]:
        """The calls that measure a genome: whole minibatches, so that how they are spread changes no sum."""
        sequences = self._unknown(key).tolist()
        size = PORTION * self.config.batch
        return [(key[0].data, sequences[i : i + size]) for i in range(0, len(sequences), size)]

    def _evaluation(self, key: Key, origin: str, results: Sequence[Any]) -> Evaluation:
        genome, draw, sequences = key
        common: dict[str, Any] = {
            "genome": genome, "draw": draw, "sequences": sequences, "origin": origin,
            "costs": self.space.costs.named(genome.levels),
        }  # fmt: skip
        errors = [str(r) if isinstance(r, WorkerDied) else r.get("error", "") for r in results]
        if any(errors):
            return Evaluation(status="failed", quality=math.nan, error=next(filter(None, errors)), **common)
        measured = [loss for result in results for loss in result["losses"]]
        losses = self._memo.completed(genome, self._sequences(key), measured)
        common["known"] = len(losses) - len(measured)
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
        """Perplexity or accuracy on test data, of dense, the picks and uniform baselines beside them; once each."""
        known: dict[str, float] = json.loads(self.run.test.read_text()) if self.run.test.exists() else {}
        wanted = [results.dense, *results.picks().values(), *results.compared_baselines()]
        genomes = {e.genome.id: e.genome for e in wanted if e is not None and e.genome.id not in known}
        self.reporter.phase(f"test {results.test_metric}", len(genomes))
        values = self.executor.map("test", [(genome.data,) for genome in genomes.values()])
        for done, (identity, value) in enumerate(zip(genomes, alive(values), strict=True), 1):
            if value is not None:
                known[identity] = value
            self.reporter.step(done)
        self.reporter.end()
        self.run.write(self.run.test, known)
