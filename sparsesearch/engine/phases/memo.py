"""What has been measured, sequence by sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsesearch.arrays import Floats, Ints
from sparsesearch.space import Genome


class Memo:
    """Losses of single sequences, so that no genome is measured on the same one twice."""

    def __init__(self, pool: int) -> None:
        self._pool = pool
        self._losses: dict[Genome, Floats] = {}

    def unknown(self, genome: Genome, sequences: Ints) -> Ints:
        """Those of the sequences that the genome has not been measured on."""
        known = self._losses.get(genome)
        return sequences if known is None else sequences[np.isnan(known[sequences])]

    def completed(self, genome: Genome, sequences: Ints, measured: Sequence[float]) -> Floats:
        """Losses of all the sequences, from those of the unknown ones."""
        losses = self._losses.get(genome, np.full(self._pool, np.nan)).copy()
        losses[self.unknown(genome, sequences)] = measured
        chosen: Floats = losses[sequences]
        return chosen

    def learn(self, genome: Genome, sequences: Ints, losses: Sequence[float]) -> None:
        """Remember the losses of some sequences."""
        self._losses.setdefault(genome, np.full(self._pool, np.nan))[sequences] = losses
