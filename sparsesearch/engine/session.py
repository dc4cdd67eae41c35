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

from sparsesearch.engine.archive import Archive, Key
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

    def search(self) -> None:
        """Ask, evaluate, tell, record, until the searcher or the budget ends it."""
        total, idle = self.budget.evals, 0
        self.reporter.phase(f"search ({self.config.search.searcher})", total)
        while idle < IDLE_GENERATIONS and (proposals := self.searcher.ask(1_000_000)):
            before = self.budget.used_evals
            affordable = self.budget.admit([(p, self._key(p), self._tokens(p)) for p in proposals])
            self.searcher.tell(self.evaluate(affordable, before))
            if len(affordable) < len(proposals):
                break
            idle = idle + 1 if self.budget.used_evals == before else 0
        self.reporter.end()

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
        portions = [self._portions(proposal) for proposal in missing.values()]
        results = self.executor.map("evaluate", [call for calls in portions for call in calls])
        done = before + len(proposals) - len(missing)
        for (key, proposal), calls in zip(missing.items(), portions, strict=True):
            started = time.monotonic()
            evaluation = self._evaluation(proposal, key, [next(results) for _ in calls])
            self.archive.append(evaluation)
            tokens = (evaluation.sequences - evaluation.known) * self.length
            self.ledger.add("evaluation", time.monotonic() - started, tokens, quiet=True)
            done += 1
            self._note(evaluation, done)
        self.ledger.flush("evaluation")
        found = [self.archive.entries[k] for k in keys]
        # Only now, so that a resumed run knows at every generation what it knew the first time.
        for evaluation, proposal in zip(found, proposals, strict=True):
            if evaluation.status == "ok":
                self._memo.learn(proposal.genome, self._sequences(proposal), evaluation.losses)
        return [replace(e, draw=p.draw) for e, p in zip(found, proposals, strict=True)]

    def _key(self, proposal: Proposal) -> Key:
        sequences = len(self._sequences(proposal))
        # With all sequences every draw is the same.
        return proposal.genome, 0 if sequences == self.pool else proposal.draw, sequences

    def _sequences(self, proposal: Proposal) -> Ints:
        need = math.ceil(proposal.tokens / self.length) if proposal.tokens else self.pool
        return minibatch(self.pool, min(need, self.pool), self.config.search.seed, proposal.draw)

    def _tokens(self, proposal: Proposal) -> int:
        """What has yet to be measured of a proposal."""
        return len(self._memo.unknown(proposal.genome, self._sequences(proposal))) * self.length

    def _portions(self, proposal: Proposal) -> list[tuple[bytes, list[int]]]:
        """The calls that measure a proposal: whole minibatches, so that how they are spread changes no sum."""
        sequences = self._memo.unknown(proposal.genome, self._sequences(proposal)).tolist()
        size = PORTION * self.config.batch
        return [(proposal.genome.data, sequences[i : i + size]) for i in range(0, len(sequences), size)]

    def _evaluation(self, proposal: Proposal, key: Key, results: Sequence[Any]) -> Evaluation:
        costs = self.space.costs.named(proposal.genome.levels)
        common: dict[str, Any] = {
            "genome": proposal.genome, "draw": key[1], "sequences": key[2], "origin": proposal.origin, "costs": costs,
        }  # fmt: skip
        errors = [str(r) if isinstance(r, WorkerDied) else r.get("error", "") for r in results]
        if any(errors):
            return Evaluation(status="failed", quality=math.nan, error=next(filter(None, errors)), **common)
        measured = [loss for result in results for loss in result["losses"]]
        losses = self._memo.completed(proposal.genome, self._sequences(proposal), measured)
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
