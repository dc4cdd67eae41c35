"""A model of the quality around one genome, learned from what a search has measured.

Bayesian linear regression on what each unit does alone and on what it removes, so that the additive model is corrected
where measurements say otherwise; samples of the posterior balance what is known against what is not (Thompson, 1933).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular

from sparsesearch.arrays import Floats, Ints
from sparsesearch.searchers.exact.additive import Table, predicted
from sparsesearch.searchers.records import Evaluation
from sparsesearch.space import Space

# Measurements that a model learns from, at most: those nearest to its genome.
NEAREST = 1000
# Mean difference in what units remove, of 1, at which a measurement counts half.
HALF = 0.1
# Share of the largest harm that counts as none.
SMALL = 1e-3
# Standard deviations that noise explains.
EXPLAINED = 2.0
# Standard deviation of what the model gets wrong about a genome, as a share of the quality.
MISFIT = 0.005
# Scales of features, which say by how much their coefficients are likely to differ from zero: of what is surely there,
# of how a unit's harm differs from the table's, of its slope, and of how draws differ. Tuned where the truth is known.
CERTAIN, UNIT, SLOPE, DRAW = 10.0, 5.0, 10.0, 1.5


@dataclass(frozen=True)
class Measurements:
    """What has been measured, one row for each evaluation.

    Attributes:
        levels: (evaluations, units).
        quality, draw, sequences: (evaluations,); qualities are finite.
    """

    levels: Ints
    quality: Floats
    draw: Ints
    sequences: Ints

    @classmethod
    def of(cls, space: Space, evaluations: Sequence[Evaluation]) -> Measurements:
        """Those of evaluations, all of finite quality."""
        return cls(
            np.array([e.genome.levels for e in evaluations], dtype=np.int64).reshape(-1, len(space.units)),
            np.array([e.quality for e in evaluations]),
            np.array([e.draw for e in evaluations], dtype=np.int64),
            np.array([e.sequences for e in evaluations], dtype=np.int64),
        )


class Surrogate:
    """Predicts qualities near a genome.

    Attributes:
        rows: of the measurements that it learned from, (rows,).
        levels: their genomes, (rows, units).
        estimates: their expected qualities, (rows,): what the model says, corrected by what was measured of them.
        doubts: standard deviations of what the model says, (rows,).
    """

    def __init__(self, space: Space, table: Table, known: Measurements, center: int) -> None:
        """
        Args:
            table: of the additive model.
            center: which row of `known` the model is around.
        """
        from sklearn.linear_model import BayesianRidge

        self.space, self.table = space, table
        self._origin = known.levels[center]
        # Near dense, where there is next to no harm, everything would look large beside it.
        most = float(sum(harm[-1] for harm in table))
        self._harm = max(float(predicted(table, self._origin)), SMALL * most) or 1.0
        noise, closeness = self._noise_of(known, center), self._closeness(known.levels)
        self.rows = rows = np.sort(np.argsort(-closeness, kind="stable")[:NEAREST])
        self.levels, noise, weights = known.levels[rows], noise[rows], np.sqrt(closeness[rows]) / noise[rows]
        self._scale = float(np.average(np.abs(known.quality[rows]), weights=closeness[rows])) or 1.0
        units = self._features(self.levels)
        names = np.unique(known.draw[rows])
        draws = (known.draw[rows][:, None] == names) * DRAW
        level = np.full((len(rows), 1), CERTAIN)
        features, target = np.concatenate([units, level, draws], axis=1), known.quality[rows] / self._scale
        self._rows = weights[:, None] * features
        model = BayesianRidge(fit_intercept=False).fit(self._rows, weights * target)
        self._mean, self._noise, self._prior = model.coef_, float(model.alpha_), float(model.lambda_)
        # Of the center, on each draw and on the average of all.
        whole, *effects = self._mean[units.shape[1] :].tolist()
        self._effects: dict[int | None, float] = {
            name: CERTAIN * whole + DRAW * effect for name, effect in zip(names.tolist(), effects, strict=True)
        }
        each = [self._effects[name] for name in known.draw[rows].tolist()]
        self._level = float(np.average(each, weights=weights**2))
        misfit = self._misfit(target - features @ self._mean, self._noise / noise**2)
        self.estimates = self.predict(self.levels) + misfit * self._scale
        self.doubts = self._doubts(np.concatenate([units, level, 0 * draws], axis=1))

    def predict(self, levels: npt.ArrayLike, draw: int | None = None) -> Floats:
        """Expected qualities of level vectors on the average draw or a certain one, (genomes, units) -> (genomes,)."""
        features = self._features(np.asarray(levels))
        level = self._effects.get(draw, self._level)
        found: Floats = (features @ self._mean[: features.shape[1]] + level) * self._scale
        return found

    def mean(self) -> Table:
        """What each level of each unit is expected to change, in the unit of the quality."""
        return self._tables(self._mean[:, None])[0]

    def samples(self, count: int, rng: np.random.Generator) -> list[Table]:
        """The same, drawn from the posterior."""
        normal = rng.normal(size=(len(self._mean), count))
        spread = solve_triangular(self._root, normal, trans="T", lower=True)
        return self._tables(self._mean[:, None] + spread)

    @cached_property
    def _root(self) -> Floats:
        """Lower Cholesky factor of the posterior precision."""
        rows = self._rows
        precision = self._noise * rows.T @ rows + self._prior * np.eye(rows.shape[1])
        root: Floats = cholesky(precision, lower=True)
        return root

    def _doubts(self, features: Floats) -> Floats:
        """Posterior standard deviations of predictions, (genomes, features) -> (genomes,)."""
        found: Floats = np.linalg.norm(solve_triangular(self._root, features.T, lower=True), axis=0) * self._scale
        return found

    def _misfit(self, rest: Floats, precision: Floats) -> Floats:
        """What measurements of the same genome agree on that the model got wrong, (rows,).

        Shrunk towards zero, but never below what noise does not explain.

        Args:
            rest: of each measurement, what the model does not explain.
            precision: of each measurement, 1 / variance.
        """
        _, genome = np.unique(self.levels, axis=0, return_inverse=True)
        certain = np.bincount(genome, precision)
        mean = np.bincount(genome, precision * rest) / certain
        shrunk = np.abs(mean) * certain / (certain + MISFIT**-2)
        beyond = np.abs(mean) - EXPLAINED / np.sqrt(certain)
        found: Floats = (np.sign(mean) * np.maximum(shrunk, beyond))[genome]
        return found

    def _closeness(self, levels: Ints) -> Floats:
        """How much genomes count, (genomes, units) -> (genomes,): 1 for the center."""
        away = [np.abs(r[levels[:, u]] - r[self._origin[u]]) for u, r in enumerate(self.space.removed_fractions)]
        closeness: Floats = 1 / (1 + (np.mean(away, axis=0) / HALF) ** 2)
        return closeness

    def _noise_of(self, known: Measurements, center: int) -> Floats:
        """Standard deviations of measurements, up to a factor: they grow with the quality itself."""
        size = np.abs(known.quality)
        worse = np.maximum(size / max(size[center], SMALL * size.max(), 1e-12), 1)
        noise: Floats = worse * np.sqrt(known.sequences.max() / known.sequences)
        return noise

    def _features(self, levels: Ints) -> Floats:
        """All units together, each alone, and what each removes; relative to the center, (genomes, 1 + 2 units)."""
        units = range(len(self.space.units))
        alone = np.stack([self.table[u][levels[:, u]] - self.table[u][self._origin[u]] for u in units], axis=1)
        removed = np.stack([self.space.removed_fractions[u][levels[:, u]] for u in units], axis=1)
        removed -= [self.space.removed_fractions[u][self._origin[u]] for u in units]
        alone *= UNIT / self._harm
        slopes = removed * SLOPE / len(units)
        return np.concatenate([CERTAIN / UNIT * alone.sum(axis=1, keepdims=True), alone, slopes], axis=1)

    def _tables(self, coefficients: Floats) -> list[Table]:
        """A table for each column of coefficients."""
        count = len(self.space.units)
        whole, alone, slope = np.split(coefficients[: 1 + 2 * count], [1, 1 + count])
        tables: list[Table] = [[] for _ in range(coefficients.shape[1])]
        for u, at in enumerate(self._origin):
            harm = (self.table[u] - self.table[u][at]) / self._harm
            removed = (self.space.removed_fractions[u] - self.space.removed_fractions[u][at]) * SLOPE / count
            change = (np.outer(harm, CERTAIN * whole[0] + UNIT * alone[u]) + np.outer(removed, slope[u])) * self._scale
            for table, column in zip(tables, change.T, strict=True):
                table.append(column)
        return tables
