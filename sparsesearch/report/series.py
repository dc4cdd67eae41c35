"""What a search has reached after each evaluation.

Everything depends on the lines of the archive so far and on nothing later, so that following a running search gives the
numbers that reading it afterwards gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsesearch import pareto
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation


class Series:
    """Takes evaluations in the order of the archive; attributes are what was reached so far.

    Attributes:
        evaluations, failed: how many were made, and how many of them could not be measured.
        tokens: selection tokens spent.
        front: the best trade-offs within the limits, dense left out, on as many samples as the search's most thorough
            measurements had so far; the final ones on all samples are left out.
        reference: the worst of the uniform candidates and dense that the search began with; None before.
        hypervolume: of the front below the reference; nan before there is one.
    """

    def __init__(self, results: RunResults) -> None:
        self.evaluations = self.failed = self.tokens = 0
        self.front: list[Evaluation] = []
        self.reference: list[float] | None = None
        self.hypervolume = math.nan
        self._results, self._sequences = results, 0
        self._yardsticks: list[list[float]] = []
        self._points: npt.NDArray[np.float64] = np.empty((0, len(results.objectives)))

    def add(self, evaluation: Evaluation) -> dict[str, float]:
        """Take in the next one; what there is to plot of it, by name."""
        results, quality = self._results, self._results.quality
        self.evaluations += 1
        self.tokens += (evaluation.sequences - evaluation.known) * int(results.info["length"])
        self._take_reference(evaluation)
        if evaluation.status != "ok":
            self.failed += 1
            return {"tokens": self.tokens, "failed": self.failed}
        if self._is_searched(evaluation):
            self._take(evaluation)
        reached = {quality: evaluation.quality, "tokens": float(self.tokens), "hypervolume": self.hypervolume}
        if self.front:
            reached[f"best_{quality}"] = min(e.quality for e in self.front)
        return {name: value for name, value in reached.items() if math.isfinite(value)}

    def _take_reference(self, evaluation: Evaluation) -> None:
        if self.reference is not None:
            return
        if evaluation.role == "baseline":
            if evaluation.status == "ok":
                self._yardsticks.append(self._results.point(evaluation))
        elif self._yardsticks:
            self.reference = np.max(self._yardsticks, axis=0).tolist()
            self._measure()

    def _is_searched(self, evaluation: Evaluation) -> bool:
        """Whether it has as many samples as the most thorough measurement of the search, all but the final ones."""
        final = evaluation.sequences == self._results.info["selection_sequences"]
        if evaluation.sequences > self._sequences and not (final and self._sequences):
            self._sequences, self.front = evaluation.sequences, []
            self._points = self._points[:0]
        return evaluation.sequences == self._sequences

    def _take(self, evaluation: Evaluation) -> None:
        space, point = self._results.space, np.array(self._results.point(evaluation))
        if evaluation.genome == space.dense or not space.feasible(evaluation.genome):
            return
        if (self._points <= point).all(axis=1).any():
            return
        kept: npt.NDArray[np.bool_] = ~np.all(point <= self._points, axis=1)
        self._points = np.vstack([self._points[kept], point])
        self.front = [*(e for e, k in zip(self.front, kept, strict=True) if k), evaluation]
        self._measure()

    def _measure(self) -> None:
        if self.reference is not None:
            self.hypervolume = pareto.hypervolume(self._points, self.reference)


def series_of(results: RunResults) -> Series:
    """All of a run so far."""
    series = Series(results)
    for evaluation in results.evaluations:
        series.add(evaluation)
    return series


def searched(results: RunResults) -> list[Evaluation]:
    """The evaluations that count against the search's budget: all but the final ones on all samples."""
    pool = results.info["selection_sequences"]
    return [e for e in results.evaluations if e.sequences < pool] or results.evaluations


def per_second(lines: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """How fast the evaluations were made that each of the ledger's lines notes: (evaluations so far, per second)."""
    found, count = [], 0
    for line in lines:
        if line["phase"] == "evaluation":
            count += line["count"]
            found.append((count, line["count"] / max(line["seconds"], 1e-3)))
    return found
