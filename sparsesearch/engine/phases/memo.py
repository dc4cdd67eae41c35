"""Losses of genomes that were measured, by sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsesearch.arrays import Floats, Ints
from sparsesearch.space import Genome


class Memo:
    """Losses of genomes on single sequences, so that no genome is measured on the same one twice."""

    def __init__(self, pool: int) -> None:
        """
        Args:
            pool: number of selection samples.
        """
        self._pool = pool
        self._losses: dict[Genome, Floats] = {}

    def unknown(self, genome: Genome, sequences: Ints) -> Ints:
        """Return the sequences among (n,) on which the genome has not been measured, (at most n,)."""
        losses = self._losses.get(genome)
        return sequences if losses is None else sequences[np.isnan(losses[sequences])]

    def completed(self, genome: Genome, sequences: Ints, measured: Sequence[float]) -> Floats:
        """Return the losses on all (n,) sequences, (n,).

        Args:
            measured: losses on the `unknown` ones among them, in that order.
        """
        losses = self._losses.get(genome, np.full(self._pool, np.nan)).copy()
        losses[self.unknown(genome, sequences)] = measured
        completed: Floats = losses[sequences]
        return completed

    def learn(self, genome: Genome, sequences: Ints, losses: Sequence[float]) -> None:
        """Store the losses of a genome on sequences."""
        self._losses.setdefault(genome, np.full(self._pool, np.nan))[sequences] = losses
