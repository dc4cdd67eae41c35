"""A model of the quality around one genome, learned from a search's measurements.

Bayesian linear regression on each unit's harm in the additive model and on the fraction that it removes, so that
measurements correct the additive model; samples of the posterior balance exploitation and exploration (Thompson, 1933).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular

from sparsesearch.arrays import Floats, Ints
from sparsesearch.searchers.exact.additive import Table, predicted_harm
from sparsesearch.searchers.records import Evaluation
from sparsesearch.space import Space

# A model learns from at most this many measurements, those nearest to its genome.
MAX_MEASUREMENTS = 1000
# Mean difference of the fractions that units remove at which a measurement gets half the weight.
HALF_WEIGHT_DISTANCE = 0.1
# Harms below this share of the largest count as this share.
MIN_HARM_SHARE = 1e-3
# Deviations of a genome up to this many standard deviations of noise are attributed to noise.
NOISE_STDS = 2.0
# Prior standard deviation of the model's error for a genome, as a share of the quality.
MISFIT_STD = 0.005
# Scales of features, which are prior standard deviations of coefficients: of the common factors, of the difference of a
# unit's harm from the table's, of its slope, and of differences between draws. Tuned on known qualities.
COMMON_SCALE, UNIT_SCALE, SLOPE_SCALE, DRAW_SCALE = 10.0, 5.0, 10.0, 1.5


@dataclass(frozen=True)
class Measurements:
    """Measurements of a search, one row for each evaluation.

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
        """Return the measurements of evaluations, all of finite quality."""
        return cls(
            np.array([e.genome.levels for e in evaluations], dtype=np.int64).reshape(-1, len(space.units)),
            np.array([e.quality for e in evaluations]),
            np.array([e.draw for e in evaluations], dtype=np.int64),
            np.array([e.sequences for e in evaluations], dtype=np.int64),
        )


class Surrogate:
    """Predicts qualities near a genome.

    Attributes:
        rows: indices of the measurements that it learned from, (rows,).
        levels: levels of these measurements, (rows, units).
        estimates: expected qualities, (rows,): predictions, corrected by the measurements of the same genome.
        prediction_stds: standard deviations of predictions, (rows,).
    """

    def __init__(self, space: Space, table: Table, measurements: Measurements, center: int) -> None:
        """
        Args:
            space: the space of genomes.
            table: harms of the additive model.
            measurements: the measurements to learn from.
            center: index of the measurement around which the model is fitted.
        """
        from sklearn.linear_model import BayesianRidge

        self.space, self.table = space, table
        self._center_levels = measurements.levels[center]
        # Bounded below, since the harm near dense is almost 0.
        largest = float(sum(harm[-1] for harm in table))
        self._center_harm = max(float(predicted_harm(table, self._center_levels)), MIN_HARM_SHARE * largest) or 1.0
        noise, closeness = self._noise_of(measurements, center), self._closeness(measurements.levels)
        self.rows = rows = np.sort(np.argsort(-closeness, kind="stable")[:MAX_MEASUREMENTS])
        self.levels, noise, weights = measurements.levels[rows], noise[rows], np.sqrt(closeness[rows]) / noise[rows]
        self._scale = float(np.average(np.abs(measurements.quality[rows]), weights=closeness[rows])) or 1.0
        units = self._features(self.levels)
        names = np.unique(measurements.draw[rows])
        draws = (measurements.draw[rows][:, None] == names) * DRAW_SCALE
        constant = np.full((len(rows), 1), COMMON_SCALE)
        features, target = np.concatenate([units, constant, draws], axis=1), measurements.quality[rows] / self._scale
        self._weighted_features = weights[:, None] * features
        model = BayesianRidge(fit_intercept=False).fit(self._weighted_features, weights * target)
        self._coefficients = model.coef_
        self._noise_precision, self._prior_precision = float(model.alpha_), float(model.lambda_)
        # Quality of the center on each draw, and on the average of all.
        common, *effects = self._coefficients[units.shape[1] :].tolist()
        self._center_qualities: dict[int | None, float] = {
            name: COMMON_SCALE * common + DRAW_SCALE * effect
            for name, effect in zip(names.tolist(), effects, strict=True)
        }
        row_centers = [self._center_qualities[name] for name in measurements.draw[rows].tolist()]
        self._mean_center_quality = float(np.average(row_centers, weights=weights**2))
        misfit = self._misfit(target - features @ self._coefficients, self._noise_precision / noise**2)
        self.estimates = self.predict(self.levels) + misfit * self._scale
        self.prediction_stds = self._stds_of(np.concatenate([units, constant, 0 * draws], axis=1))

    def predict(self, levels: npt.ArrayLike, draw: int | None = None) -> Floats:
        """Return expected qualities of level vectors, (genomes, units) -> (genomes,).

        Args:
            draw: the draw of sequences; None for the average of all.
        """
        features = self._features(np.asarray(levels))
        center_quality = self._center_qualities.get(draw, self._mean_center_quality)
        return np.asarray((features @ self._coefficients[: features.shape[1]] + center_quality) * self._scale)

    def mean_table(self) -> Table:
        """Return the expected change of the quality at each level of each unit, relative to the center."""
        return self._tables_of(self._coefficients[:, None])[0]

    def sample_tables(self, count: int, rng: np.random.Generator) -> list[Table]:
        """Return `count` tables like `mean_table`, drawn from the posterior."""
        normal = rng.normal(size=(len(self._coefficients), count))
        spread = solve_triangular(self._precision_root, normal, trans="T", lower=True)
        return self._tables_of(self._coefficients[:, None] + spread)

    @cached_property
    def _precision_root(self) -> Floats:
        """Lower Cholesky factor of the posterior precision."""
        features = self._weighted_features
        precision = self._noise_precision * features.T @ features + self._prior_precision * np.eye(features.shape[1])
        return np.asarray(cholesky(precision, lower=True))

    def _stds_of(self, features: Floats) -> Floats:
        """Return posterior standard deviations of predictions, (genomes, features) -> (genomes,)."""
        return np.asarray(
            np.linalg.norm(solve_triangular(self._precision_root, features.T, lower=True), axis=0) * self._scale
        )

    def _misfit(self, residual: Floats, precision: Floats) -> Floats:
        """Return the error of the model for each measurement's genome, the same for all of one genome, (rows,).

        It is the mean residual, shrunk towards zero, but not below the part that noise does not explain.

        Args:
            residual: measurement less prediction, (rows,).
            precision: 1 / variance of each measurement, (rows,).
        """
        _, genome = np.unique(self.levels, axis=0, return_inverse=True)
        total = np.bincount(genome, precision)
        mean = np.bincount(genome, precision * residual) / total
        shrunk = np.abs(mean) * total / (total + MISFIT_STD**-2)
        beyond_noise = np.abs(mean) - NOISE_STDS / np.sqrt(total)
        return np.asarray((np.sign(mean) * np.maximum(shrunk, beyond_noise))[genome])

    def _closeness(self, levels: Ints) -> Floats:
        """Return weights of genomes, (genomes, units) -> (genomes,), in (0, 1]; 1 for the center."""
        fractions = self.space.removed_fractions
        distances = [np.abs(r[levels[:, u]] - r[self._center_levels[u]]) for u, r in enumerate(fractions)]
        return np.asarray(1 / (1 + (np.mean(distances, axis=0) / HALF_WEIGHT_DISTANCE) ** 2))

    def _noise_of(self, measurements: Measurements, center: int) -> Floats:
        """Return standard deviations of measurements up to a factor, (evaluations,); they grow with the quality."""
        size = np.abs(measurements.quality)
        relative = np.maximum(size / max(size[center], MIN_HARM_SHARE * size.max(), 1e-12), 1)
        return np.asarray(relative * np.sqrt(measurements.sequences.max() / measurements.sequences))

    def _features(self, levels: Ints) -> Floats:
        """Return the features of genomes relative to the center, (genomes, units) -> (genomes, 1 + 2 units).

        The total harm of the additive model, the harm of each unit, and the fraction that each unit removes.
        """
        units = range(len(self.space.units))
        harms = np.stack([self.table[u][levels[:, u]] - self.table[u][self._center_levels[u]] for u in units], axis=1)
        removed = np.stack([self.space.removed_fractions[u][levels[:, u]] for u in units], axis=1)
        removed -= [self.space.removed_fractions[u][self._center_levels[u]] for u in units]
        harms *= UNIT_SCALE / self._center_harm
        slopes = removed * SLOPE_SCALE / len(units)
        return np.concatenate([COMMON_SCALE / UNIT_SCALE * harms.sum(axis=1, keepdims=True), harms, slopes], axis=1)

    def _tables_of(self, coefficients: Floats) -> list[Table]:
        """Return a table of changes of the quality for each column of coefficients, (features, tables)."""
        count = len(self.space.units)
        common, unit, slope = np.split(coefficients[: 1 + 2 * count], [1, 1 + count])
        tables: list[Table] = [[] for _ in range(coefficients.shape[1])]
        for u, level in enumerate(self._center_levels):
            harm = (self.table[u] - self.table[u][level]) / self._center_harm
            removed = (self.space.removed_fractions[u] - self.space.removed_fractions[u][level]) * SLOPE_SCALE / count
            factor = COMMON_SCALE * common[0] + UNIT_SCALE * unit[u]
            change = (np.outer(harm, factor) + np.outer(removed, slope[u])) * self._scale
            for table, column in zip(tables, change.T, strict=True):
                table.append(column)
        return tables
