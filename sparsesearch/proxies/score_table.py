"""Scores that are sums over matrices: tabulated once, then looked up for any candidate in microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsesearch.arrays import Floats
from sparsesearch.space import Space


@dataclass(frozen=True)
class Tabulated:
    """Scores of one matrix.

    Attributes:
        levels: of each combination of its (sparsity, cut) levels, in the order of `Composer.combinations`.
        dropped: where its sublayer is dropped.
    """

    levels: list[float]
    dropped: float


class ScoreTable:
    """Scores any genome."""

    def __init__(self, space: Space, levels: npt.ArrayLike, dropped: npt.ArrayLike) -> None:
        """
        Args:
            levels: scores of all parts' combinations of levels, in the order of `CostModel.part_rows`.
            dropped: of each part where its sublayer is dropped, (parts,).
        """
        self._space = space
        self._levels = np.asarray(levels, dtype=float)
        self._dropped = np.asarray(dropped, dtype=float)

    @classmethod
    def of(cls, space: Space, scores: Mapping[str, Tabulated]) -> ScoreTable:
        """From scores by matrix; the space's other tensors count nothing."""
        parts, sizes = space.parts, space.costs.rows_per_part.tolist()
        none = [Tabulated([0.0] * size, 0.0) for size in sizes]
        each = [scores.get(part.name, other) for part, other in zip(parts, none, strict=True)]
        return cls(space, np.concatenate([one.levels for one in each]), [one.dropped for one in each])

    def to_json(self) -> dict[str, list[float]]:
        """Arguments of the constructor."""
        return {"levels": self._levels.tolist(), "dropped": self._dropped.tolist()}

    def scores(self, levels: npt.ArrayLike) -> Floats:
        """Scores of level vectors, (..., units) -> (...)."""
        row, dropped = self._space.costs.part_rows(levels)
        found: Floats = np.where(dropped, self._dropped, self._levels[row]).sum(axis=-1)
        return found
