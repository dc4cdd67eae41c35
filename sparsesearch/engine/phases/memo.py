"""Losses of measured genomes, by row of the selection samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsesearch.arrays import Floats, Ints
from sparsesearch.space import Genome


class Memo:
    """Losses of genomes on single sequences, so that none is measured twice."""

    def __init__(self, pool: int) -> None:
        """
        Args:
            pool: number of selection samples.
        """
        self._pool = pool
        self._losses: dict[Genome, Floats] = {}

    def missing(self, genome: Genome, rows: Ints) -> Ints:
        """Return those of the rows (n,) on which the genome has not been measured, (at most n,)."""
        losses = self._losses.get(genome)
        return rows if losses is None else rows[np.isnan(losses[rows])]

    def complete(self, genome: Genome, rows: Ints, measured: Sequence[float]) -> Floats:
        """Return the losses on all rows (n,), (n,).

        Args:
            measured: losses on the `missing` ones, in that order.
        """
        losses = self._losses.get(genome, np.full(self._pool, np.nan)).copy()
        losses[self.missing(genome, rows)] = measured
        complete: Floats = losses[rows]
        return complete

    def learn(self, genome: Genome, rows: Ints, losses: Sequence[float]) -> None:
        """Store the losses (n,) of a genome on rows (n,)."""
        self._losses.setdefault(genome, np.full(self._pool, np.nan))[rows] = losses
