"""The state of a search after each evaluation.

All numbers depend only on the archive's lines so far, so following a running search gives the same numbers as reading
it afterwards.
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


class SearchSeries:
    """The state of a search, updated by evaluations in the order of the archive.

    Attributes:
        evaluations, failed: number of evaluations, and how many of them could not be measured.
        tokens: selection tokens spent.
        front: non-dominated candidates within the limits, without dense, measured on as many samples as the search's
            most thorough measurements so far; final measurements on all samples are left out.
        reference: worst objectives of the uniform candidates and dense that the search started with; None before.
        hypervolume: hypervolume of the front below the reference; nan before there is a reference.
    """

    def __init__(self, results: RunResults) -> None:
        self.evaluations = self.failed = self.tokens = 0
        self.front: list[Evaluation] = []
        self.reference: list[float] | None = None
        self.hypervolume = math.nan
        self._results, self._sequences = results, 0
        self._reference_points: list[list[float]] = []
        self._points: npt.NDArray[np.float64] = np.empty((0, len(results.objectives)))

    def add(self, evaluation: Evaluation) -> dict[str, float]:
        """Add the next evaluation; return the values to plot, by name."""
        results, quality = self._results, self._results.quality
        self.evaluations += 1
        self.tokens += evaluation.measured_sequences * int(results.info["length"])
        self._update_reference(evaluation)
        if evaluation.status != "ok":
            self.failed += 1
            return {"tokens": self.tokens, "failed": self.failed}
        if self._is_most_thorough(evaluation):
            self._update_front(evaluation)
        values = {quality: evaluation.quality, "tokens": float(self.tokens), "hypervolume": self.hypervolume}
        if self.front:
            values[f"best_{quality}"] = min(e.quality for e in self.front)
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _update_reference(self, evaluation: Evaluation) -> None:
        if self.reference is not None:
            return
        if evaluation.role == "baseline":
            if evaluation.status == "ok":
                self._reference_points.append(self._results.point(evaluation))
        elif self._reference_points:
            self.reference = np.max(self._reference_points, axis=0).tolist()
            self._update_hypervolume()

    def _is_most_thorough(self, evaluation: Evaluation) -> bool:
        """Return whether it has as many samples as the search's most thorough measurement, except final ones."""
        final = evaluation.sequences == self._results.info["selection_sequences"]
        if evaluation.sequences > self._sequences and not (final and self._sequences):
            self._sequences, self.front = evaluation.sequences, []
            self._points = self._points[:0]
        return evaluation.sequences == self._sequences

    def _update_front(self, evaluation: Evaluation) -> None:
        space, point = self._results.space, np.array(self._results.point(evaluation))
        if evaluation.genome == space.dense or not space.feasible(evaluation.genome):
            return
        if (self._points <= point).all(axis=1).any():
            return
        kept: npt.NDArray[np.bool_] = ~np.all(point <= self._points, axis=1)
        self._points = np.vstack([self._points[kept], point])
        self.front = [*(e for e, k in zip(self.front, kept, strict=True) if k), evaluation]
        self._update_hypervolume()

    def _update_hypervolume(self) -> None:
        if self.reference is not None:
            self.hypervolume = pareto.hypervolume(self._points, self.reference)


def series_of(results: RunResults) -> SearchSeries:
    """Return the state after all evaluations of a run so far."""
    series = SearchSeries(results)
    for evaluation in results.evaluations:
        series.add(evaluation)
    return series


def budgeted_evaluations(results: RunResults) -> list[Evaluation]:
    """Return the evaluations that count against the search's budget: all but the final ones on all samples."""
    pool = results.info["selection_sequences"]
    return [e for e in results.evaluations if e.sequences < pool] or results.evaluations


def evaluation_rates(lines: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """Return (evaluations so far, evaluations per second) for each line of the ledger about evaluations."""
    rates, count = [], 0
    for line in lines:
        if line["phase"] == "evaluation":
            count += line["count"]
            rates.append((count, line["count"] / max(line["seconds"], 1e-3)))
    return rates
