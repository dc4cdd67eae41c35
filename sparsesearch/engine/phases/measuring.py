"""Measuring genomes on selection data: workers, archive and ledger around one evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsesearch.engine.job import Job
from sparsesearch.engine.phases.memo import Memo
from sparsesearch.engine.workers.call_results import Failed, Measured
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import problem
from sparsesearch.evaluation.evaluator import minibatch, quality_of
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.ledger import TRAINING_PASSES
from sparsesearch.searchers import Evaluation, Proposal
from sparsesearch.searchers.records import Request

Ints = npt.NDArray[np.int64]
# Genome, rows of the selection samples, training tokens: the arguments of `Worker.evaluate`.
Call = tuple[bytes, list[int], int]

# Number of evaluations from which on failures can end the run.
MIN_EVALUATIONS_TO_FAIL = 20
# Minibatches that a worker measures in one call: few, so that workers end together even with few candidates.
MINIBATCHES_PER_CALL = 2


@dataclass(frozen=True)
class PlannedEvaluation:
    """A proposal with the work that it still needs; `Measurer.measure` turns it into an `Evaluation`.

    Attributes:
        rows: rows of the selection samples, (requested,).
        missing_rows: those of them on which the genome was not measured before.
        tokens: tokens that the measurement takes, including training.
    """

    proposal: Proposal
    request: Request
    rows: Ints
    missing_rows: Ints
    tokens: int


class Measurer:
    """Measures proposals; evaluations in the archive are not repeated."""

    def __init__(self, job: Job) -> None:
        self.job, self.config = job, job.launch.config
        self.archive = Archive(job.run.archive, writable=True)
        selection = job.launch.samples["selection"]
        self.pool, self.length = len(selection), selection.length
        self._failures = sum(e.status != "ok" for e in self.archive.entries.values())
        self._memos: dict[int, Memo] = {}

    def plan(self, proposals: Sequence[Proposal]) -> list[PlannedEvaluation]:
        """Return the work that proposals need, in their order."""
        return [self._plan(proposal) for proposal in proposals]

    def _plan(self, proposal: Proposal) -> PlannedEvaluation:
        """Return a proposal's request and the rows on which it is not measured yet."""
        count = math.ceil(proposal.tokens / self.length) if proposal.tokens else self.pool
        # With all sequences, draws differ only in their order.
        draw = proposal.draw if count < self.pool else 0
        request = Request(proposal.genome, draw, min(count, self.pool), proposal.trained)
        rows = self._rows(request)
        missing = self._memo(request.trained).missing(request.genome, rows)
        training = TRAINING_PASSES * request.trained if len(missing) else 0
        return PlannedEvaluation(proposal, request, rows, missing, len(missing) * self.length + training)

    def evaluate(self, proposals: Sequence[Proposal]) -> list[Evaluation]:
        """Return evaluations of proposals in their order."""
        return self.measure(self.plan(proposals))

    def measure(self, measurements: Sequence[PlannedEvaluation], done_before: int = 0) -> list[Evaluation]:
        """Return evaluations of planned measurements in their order.

        Args:
            done_before: steps of the current phase that are done already, for progress.
        """
        missing = {m.request: m for m in measurements if m.request not in self.archive.entries}
        calls = {request: self.calls(measurement) for request, measurement in missing.items()}
        results = self.job.executor.map(Worker.evaluate, list(chain(*calls.values())), on_death=Failed)
        done = done_before + len(measurements) - len(missing)
        for request, measurement in missing.items():
            started = time.monotonic()
            done += 1
            self.record(measurement, [next(results) for _ in calls[request]], started, done)
        self.job.ledger.flush("evaluation")
        evaluations = [self.archive.entries[m.request] for m in measurements]
        # After the loop: a resumed run must plan each generation with the same memo as the first session.
        for evaluation in evaluations:
            self.remember(evaluation)
        return [self.as_proposed(e, m.proposal) for e, m in zip(evaluations, measurements, strict=True)]

    def calls(self, measurement: PlannedEvaluation) -> list[Call]:
        """Return the calls that measure a genome: whole minibatches, so that their split over workers changes no sum.

        A genome that is trained first is measured in one call.
        """
        rows, request = measurement.missing_rows.tolist(), measurement.request
        size = max(len(rows), 1) if request.trained else MINIBATCHES_PER_CALL * self.config.batch
        return [(request.genome.data, rows[i : i + size], request.trained) for i in range(0, len(rows), size)]

    def record(
        self, measurement: PlannedEvaluation, results: Sequence[Measured | Failed], started: float, done: int
    ) -> Evaluation:
        """Write the results of a measurement to the archive and the ledger.

        Args:
            started: `time.monotonic()` when the work began.
            done: steps of the current phase that are done now.
        """
        evaluation = self._evaluation(measurement, results)
        self.archive.append(evaluation)
        measured = evaluation.measured_sequences
        tokens = measured * self.length + (TRAINING_PASSES * evaluation.trained if measured else 0)
        self.job.ledger.add("evaluation", time.monotonic() - started, tokens, quiet=True)
        self._report(evaluation, done)
        return evaluation

    def remember(self, evaluation: Evaluation) -> None:
        """Keep the losses of an evaluation, so that its sequences are not measured again."""
        if evaluation.status == "ok":
            rows = self._rows(evaluation.request)
            self._memo(evaluation.trained).learn(evaluation.genome, rows, evaluation.losses)

    def as_proposed(self, evaluation: Evaluation, proposal: Proposal) -> Evaluation:
        """Return the evaluation with its losses in the order of the proposal's draw."""
        if evaluation.draw == proposal.draw or not evaluation.losses:
            return replace(evaluation, draw=proposal.draw)
        losses = np.empty(self.pool)
        losses[self._rows(evaluation.request)] = evaluation.losses
        order = minibatch(self.pool, self.pool, self.config.search.seed, proposal.draw)
        return replace(evaluation, draw=proposal.draw, losses=tuple(losses[order].tolist()))

    def _rows(self, request: Request) -> Ints:
        return minibatch(self.pool, request.sequences, self.config.search.seed, request.draw)

    def _memo(self, trained: int) -> Memo:
        """Return the losses of candidates after so many tokens of training."""
        return self._memos.setdefault(trained, Memo(self.pool))

    def _evaluation(self, measurement: PlannedEvaluation, results: Sequence[Measured | Failed]) -> Evaluation:
        request, proposal = measurement.request, measurement.proposal
        common: dict[str, Any] = {
            "genome": request.genome,
            "draw": request.draw,
            "sequences": request.sequences,
            "origin": proposal.origin,
            "costs": self.job.space.costs.named(request.genome.levels),
            "trained": request.trained,
            "parents": tuple(parent.id for parent in proposal.parents),
            "role": proposal.role,
        }
        if failures := [result for result in results if isinstance(result, Failed)]:
            self._keep_traceback(request, failures[0])
            return Evaluation(status="failed", quality=math.nan, error=failures[0].error, **common)
        measured = [loss for result in results if isinstance(result, Measured) for loss in result.losses]
        losses = self._memo(request.trained).complete(request.genome, measurement.rows, measured)
        common["known"] = len(losses) - len(measured)
        quality = quality_of(losses, self.config.objectives[0])
        status: Any = "ok" if math.isfinite(quality) else "invalid"
        return Evaluation(status=status, quality=quality, losses=tuple(losses.tolist()), **common)

    def _keep_traceback(self, request: Request, failure: Failed) -> None:
        line = {"id": request.genome.id, "error": failure.error, "traceback": failure.traceback}
        self.job.run.append(self.job.run.failures, line)

    def _report(self, evaluation: Evaluation, done: int) -> None:
        """Report progress and failures; raises SparseSearchError SS403 if more than half of the candidates failed."""
        reporter, reason = self.job.reporter, evaluation.error or "quality is not finite"
        if evaluation.status != "ok":
            self._failures += 1
            reporter.message(f"SS402 candidate {evaluation.genome.id}: {reason}; left out of the front.")
            total = len(self.archive.entries)
            if total >= MIN_EVALUATIONS_TO_FAIL and self._failures > total / 2:
                raise problem(
                    "SS403",
                    f"{self._failures} of {total} candidates failed; the run stops.",
                    fix=f"The last: {reason}",
                )
        failed = f"  failed {self._failures}" if self._failures else ""
        reporter.step(done, f"last {self.config.objectives[0]} {evaluation.quality:.4g}{failed}")
