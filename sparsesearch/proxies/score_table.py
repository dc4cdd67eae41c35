"""Scores that are sums over matrices: computed once for all levels, then looked up for any candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsesearch.arrays import Floats
from sparsesearch.space import Space


@dataclass(frozen=True)
class MatrixScores:
    """Scores of one matrix.

    Attributes:
        levels: score at each combination of its (sparsity, cut) levels, in the order of `Composer.combinations`.
        dropped: score if its sublayer is dropped.
    """

    levels: list[float]
    dropped: float


class ScoreTable:
    """Scores any genome as the sum over its parts."""

    def __init__(self, space: Space, levels: npt.ArrayLike, dropped: npt.ArrayLike) -> None:
        """
        Args:
            levels: scores of all parts' combinations of levels, in the order of `CostModel.part_rows`, (rows,).
            dropped: score of each part if its sublayer is dropped, (parts,).
        """
        self._space = space
        self._levels = np.asarray(levels, dtype=float)
        self._dropped = np.asarray(dropped, dtype=float)

    @classmethod
    def of(cls, space: Space, scores: Mapping[str, MatrixScores]) -> ScoreTable:
        """Make a table from scores by matrix; all other tensors of the space score 0."""
        parts, sizes = space.parts, space.costs.rows_per_part.tolist()
        zeros = [MatrixScores([0.0] * size, 0.0) for size in sizes]
        part_scores = [scores.get(part.name, zero) for part, zero in zip(parts, zeros, strict=True)]
        return cls(space, np.concatenate([part.levels for part in part_scores]), [part.dropped for part in part_scores])

    def to_json(self) -> dict[str, list[float]]:
        """Return the arguments of the constructor as a JSON object."""
        return {"levels": self._levels.tolist(), "dropped": self._dropped.tolist()}

    def scores(self, levels: npt.ArrayLike) -> Floats:
        """Return scores of level vectors, (..., units) -> (...)."""
        row, dropped = self._space.costs.part_rows(levels)
        return np.asarray(np.where(dropped, self._dropped, self._levels[row]).sum(axis=-1))
