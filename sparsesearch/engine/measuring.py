"""Measuring genomes on selection data: workers, archive, memo and ledger around one evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sparsesearch.arrays import Ints
from sparsesearch.engine.launch.prepare import Launch
from sparsesearch.engine.memo import Memo
from sparsesearch.engine.workers.executor import Executor, WorkerDied
from sparsesearch.errors import problem
from sparsesearch.evaluation.evaluator import minibatch, quality_of
from sparsesearch.runs.archive import Archive, Key, key_of
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import TRAINING_PASSES, Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.searchers import Evaluation, Proposal
from sparsesearch.space import Space

# Below this many evaluations, failures are not yet a verdict on the whole run.
FAILURES_MATTER = 20
# Minibatches a worker measures in one call: few, so that workers end together also where candidates are few.
PORTION = 2


class Measurer:
    """Measures what is proposed; what the archive has is not measured again."""

    def __init__(
        self, launch: Launch, run: RunDirectory, space: Space, executor: Executor, reporter: Reporter, ledger: Ledger
    ) -> None:
        self.space, self.executor, self.reporter, self.ledger = space, executor, reporter, ledger
        self.config = launch.config
        self.archive = Archive(run.archive, writable=True)
        self.pool, self.length = len(launch.samples["selection"]), launch.samples["selection"].length
        self._failures = sum(e.status != "ok" for e in self.archive.entries.values())
        self._memos: dict[int, Memo] = {}

    def evaluate(self, proposals: Sequence[Proposal], before: int = 0) -> list[Evaluation]:
        """Evaluations of proposals in order; what the archive has is not measured again.

        Args:
            before: steps that the current phase had done already, for progress.
        """
        keys = [self.key(p) for p in proposals]
        missing = {k: p for k, p in zip(keys, proposals, strict=True) if k not in self.archive.entries}
        portions = [self.calls(key) for key in missing]
        results = self.executor.map("evaluate", [call for calls in portions for call in calls])
        done = before + len(proposals) - len(missing)
        for (key, proposal), calls in zip(missing.items(), portions, strict=True):
            started, done = time.monotonic(), done + 1
            self.record(key, proposal, [next(results) for _ in calls], started, done)
        self.ledger.flush("evaluation")
        found = [self.archive.entries[k] for k in keys]
        # Only now, so that a resumed run knows at every generation what it knew the first time.
        for evaluation in found:
            self.learn(evaluation)
        return [self.as_asked(e, p) for e, p in zip(found, proposals, strict=True)]

    def record(self, key: Key, proposal: Proposal, results: list[Any], started: float, done: int) -> Evaluation:
        """What workers measured, as a line of the archive and of the ledger."""
        evaluation = self._evaluation(key, proposal, results)
        self.archive.append(evaluation)
        measured = evaluation.sequences - evaluation.known
        tokens = measured * self.length + (TRAINING_PASSES * evaluation.trained if measured else 0)
        self.ledger.add("evaluation", time.monotonic() - started, tokens, quiet=True)
        self._note(evaluation, done)
        return evaluation

    def learn(self, evaluation: Evaluation) -> None:
        if evaluation.status == "ok":
            self._memo_of(evaluation.trained).learn(
                evaluation.genome, self._sequences(key_of(evaluation)), evaluation.losses
            )

    def as_asked(self, evaluation: Evaluation, proposal: Proposal) -> Evaluation:
        """The evaluation with its losses in the order of the proposal's draw."""
        if evaluation.draw == proposal.draw or not evaluation.losses:
            return replace(evaluation, draw=proposal.draw)
        losses = np.empty(self.pool)
        losses[self._sequences(key_of(evaluation))] = evaluation.losses
        order = minibatch(self.pool, self.pool, self.config.search.seed, proposal.draw)
        return replace(evaluation, draw=proposal.draw, losses=tuple(losses[order].tolist()))

    def key(self, proposal: Proposal) -> Key:
        need = math.ceil(proposal.tokens / self.length) if proposal.tokens else self.pool
        # With all sequences every draw is the same, but for their order.
        return proposal.genome, proposal.draw if need < self.pool else 0, min(need, self.pool), proposal.trained

    def cost(self, key: Key) -> int:
        """Tokens that measuring takes: those of unknown sequences, and of training before."""
        unknown = len(self.unknown(key))
        return unknown * self.length + (TRAINING_PASSES * key[3] if unknown else 0)

    def _sequences(self, key: Key) -> Ints:
        _, draw, count, _ = key
        return minibatch(self.pool, count, self.config.search.seed, draw)

    def unknown(self, key: Key) -> Ints:
        """Sequences on which the genome has yet to be measured."""
        return self._memo_of(key[3]).unknown(key[0], self._sequences(key))

    def _memo_of(self, trained: int) -> Memo:
        """What is known of candidates after so much training."""
        return self._memos.setdefault(trained, Memo(self.pool))

    def calls(self, key: Key) -> list[tuple[bytes, list[int], int]]:
        """The calls that measure a genome: whole minibatches, so that how they are spread changes no sum.

        What is trained first is measured in one call.
        """
        sequences, trained = self.unknown(key).tolist(), key[3]
        size = max(len(sequences), 1) if trained else PORTION * self.config.batch
        return [(key[0].data, sequences[i : i + size], trained) for i in range(0, len(sequences), size)]

    def _evaluation(self, key: Key, proposal: Proposal, results: Sequence[Any]) -> Evaluation:
        genome, draw, sequences, trained = key
        common: dict[str, Any] = {
            "genome": genome,
            "draw": draw,
            "sequences": sequences,
            "origin": proposal.origin,
            "costs": self.space.costs.named(genome.levels),
            "trained": trained,
            "parents": tuple(parent.id for parent in proposal.parents),
        }
        errors = [str(r) if isinstance(r, WorkerDied) else r.get("error", "") for r in results]
        if any(errors):
            return Evaluation(status="failed", quality=math.nan, error=next(filter(None, errors)), **common)
        measured = [loss for result in results for loss in result["losses"]]
        losses = self._memo_of(trained).completed(genome, self._sequences(key), measured)
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
                raise problem(
                    "SS403",
                    f"{self._failures} of {total} candidates failed; the run stops.",
                    fix=f"The last: {evaluation.error or 'quality is not finite'}",
                )
        failed = f"  failed {self._failures}" if self._failures else ""
        self.reporter.step(done, f"last {self.config.objectives[0]} {evaluation.quality:.4g}{failed}")
