"""A model of the quality, learned from what a search has measured; it chooses which of many children to measure.

The additive model says what each level of each unit does alone; ridge regression on these numbers and on products of
their sums by block learns what they do together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from sparsesearch.searchers.additive import Floats, Table, predicted
from sparsesearch.space import Genome, Space

# Rank correlation of predictions and measurements below which predictions are not used.
TRUSTED = 0.3
# Weight of the newest generation in the running correlation.
MEMORY = 0.5


class Surrogate:
    """Predicts qualities, and knows how well it did so far."""

    def __init__(self, space: Space, table: Table | None = None) -> None:
        """
        Args:
            table: of the additive model; without one, squares of what each unit removes.
        """
        self.table = [removed**2 for removed in space.removed] if table is None else table
        self._membership = (space.blocks[:, None] == np.unique(space.blocks)).astype(np.float64)
        self._pairs = np.triu_indices(self._membership.shape[1])
        # Rank correlation of what was predicted with what was measured then, over recent generations.
        self.correlation: float | None = None
        self._model: object | None = None

    @property
    def trusted(self) -> bool:
        """Whether it has learned something and has not been wrong lately."""
        return self._model is not None and (self.correlation is None or self.correlation >= TRUSTED)

    def fit(self, genomes: Sequence[Genome], qualities: npt.ArrayLike) -> None:
        """Learn from all measurements so far, qualities >= 0 and finite."""
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        target = np.asarray(qualities, dtype=np.float64)
        if len(target) < 8:
            return
        # Relative errors count: else the ruined candidates would decide alone.
        weights = 1 / (target + np.median(target) * 0.1 + 1e-12) ** 2
        model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-4, 4, 17)))
        model.fit(self._features(genomes), target, ridgecv__sample_weight=weights / weights.mean())
        self._model = model

    def predict(self, genomes: Sequence[Genome]) -> Floats:
        """Qualities of genomes; by the additive model alone before anything was learned."""
        if self._model is None:
            return predicted(self.table, np.stack([genome.levels for genome in genomes]))
        found: Floats = self._model.predict(self._features(genomes))  # type: ignore[attr-defined]
        return found

    def judge(self, expected: Floats, measured: npt.ArrayLike) -> None:
        """Compare earlier predictions with what was measured; fewer than four say nothing."""
        measured = np.asarray(measured, dtype=np.float64)
        if len(measured) < 4 or np.ptp(measured) == 0 or np.ptp(expected) == 0:
            return
        found = float(spearmanr(expected, measured).statistic)
        self.correlation = found if self.correlation is None else MEMORY * found + (1 - MEMORY) * self.correlation

    def _features(self, genomes: Sequence[Genome]) -> Floats:
        levels = np.stack([genome.levels for genome in genomes])
        alone = np.stack([harm[levels[:, unit]] for unit, harm in enumerate(self.table)], axis=1)
        by_block = alone @ self._membership
        together = by_block[:, self._pairs[0]] * by_block[:, self._pairs[1]]
        features: Floats = np.concatenate([alone, together], axis=1)
        return features
