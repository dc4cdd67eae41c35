"""The default searcher: exact solutions of a model of the losses, which measurements correct.

Generation 0 measures seeds, and units pruned alone; exact solutions of the additive model follow. Then each generation
fits a model around the best genome of each of some sizes, and measures exact solutions of its posterior samples near
that genome, and random moves. Children are measured on changing draws of sequences, a few children on each, and the
model separates the effect of the draw from that of the child.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from sparsesearch.arrays import Floats
from sparsesearch.config.base import LARGEST, MANY
from sparsesearch.searchers.auto.surrogate import Measurements, Surrogate
from sparsesearch.searchers.base import Searcher, Seeds, rank
from sparsesearch.searchers.evolutionary.operators import moves
from sparsesearch.searchers.exact.additive import probe_proposals, table_of
from sparsesearch.searchers.exact.exact_searchers import exact_solutions
from sparsesearch.searchers.exact.solvers import limits_at, solver_of
from sparsesearch.searchers.option_types import SelectionTokens
from sparsesearch.searchers.records import Evaluation, Proposal
from sparsesearch.space import Genome, Limit, Space

# Draw of the units pruned alone; draw of the seeds and the first solutions.
PROBE_DRAW, FIRST_DRAW = 0, 1
# If predictions and measurements have a lower rank correlation, predictions are not used.
MIN_CORRELATION = 0.3
# Weight of the newest correlation in the running mean.
CORRELATION_UPDATE_RATE = 0.5
# Fewest predictions of one correlation.
MIN_PREDICTIONS = 8
# Consecutive children that are measured on the same draw.
CHILDREN_PER_DRAW = 8
# Share of children that are measurements of the best genomes again, since one measurement is noisy.
REMEASURE_SHARE = 0.125
# Standard deviations that are added to a genome's estimated loss.
PESSIMISM_STD = 1.0
# Solutions are searched within the full radius, half of it and a quarter, in turn, since the range in which losses add
# up differs between networks.
RADII = 3
# Share of children at the limits, if there are any.
SHARE_AT_LIMITS = 0.75
# Finalists at the limits.
MAX_FINALISTS_AT_LIMITS = 4


def pessimistic_estimates(model: Surrogate) -> Floats:
    """Return upper confidence bounds of the measured genomes' losses, (rows,), so that lucky ones are not preferred."""
    return model.estimates + PESSIMISM_STD * model.prediction_stds


def best_measured(model: Surrogate, space: Space) -> list[Genome]:
    """Return the measured genomes within a space's limits, the one with the best pessimistic estimate first."""
    feasible = np.flatnonzero(space.feasible_rows(model.levels))
    order = feasible[pessimistic_estimates(model)[feasible].argsort()]
    return list(dict.fromkeys(Genome.of(model.levels[i]) for i in order))


class Child(NamedTuple):
    """The origin of a child: its label, the genome it was made near, and the model it is a solution of, if any."""

    origin: str
    near: Genome
    model: Surrogate | None


class AutoSearcher(Searcher):
    """Exact solutions of a model of the quality that measurements correct, at all sizes in one run."""

    class Options(Searcher.Options):
        probes: int = Field(
            4,
            ge=0,
            le=MANY,
            description="Number of levels of each unit, evenly spread, that generation 0 measures with all other units "
            "dense, to predict losses; 0: none, and the loss of a unit is first predicted as the square of the share "
            "that it removes.",
        )
        probe_tokens: int = Field(
            512, ge=0, le=LARGEST, description="Selection tokens of each of these measurements; 0: all there are."
        )
        variants: int = Field(
            8, ge=0, le=MANY, description="Number of solutions at the limits, for perturbed losses, in generation 1."
        )
        sizes: int = Field(
            7,
            ge=1,
            le=MANY,
            description="Number of sizes at which each generation searches, between the smallest genome and the limits "
            "(or dense).",
        )
        offspring: int = Field(
            32, ge=1, le=MANY, description="Children in a generation, three of four at the limits if there are any."
        )
        tokens: SelectionTokens = 1024
        draws: int = Field(
            64,
            ge=1,
            le=MANY,
            description="Number of random draws of selection sequences that children are measured on in turn.",
        )
        radius: int = Field(
            4,
            ge=1,
            le=LARGEST,
            description="Largest difference in levels between a unit of a solution and of the best genome near it.",
        )
        moves: float = Field(
            0.1, ge=0, le=1, description="Share of the children that are random moves from the best genomes."
        )

    options: Options
    overlaps = True

    def __init__(
        self, space: Space, objectives: Any, seed: int, options: Searcher.Options, seeds: Seeds | None = None
    ) -> None:
        super().__init__(space, objectives, seed, options, seeds)
        self.cost = space.bounds[0].cost if space.bounds else self.objectives[1]
        self.table = [removed**2 for removed in space.removed_fractions]
        # Number of children so far, and predicted qualities of those that are not measured yet.
        self._children_count = 0
        self._predictions: dict[tuple[Genome, int], float] = {}
        # Running rank correlation of predictions and measurements of children.
        self.correlation: float | None = None
        self._evaluations: list[Evaluation] = []
        # (draw, predicted quality, measured quality) of children since the last correlation.
        self._prediction_pairs: list[tuple[int, float, float]] = []

    def check(self) -> None:
        self.solver = solver_of(self.space)

    @property
    def waits(self) -> bool:
        return super().waits or self.generation_count <= 2

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        options = self.options
        if index == 0:
            start = self.starting_proposals(options.sizes, options.tokens, FIRST_DRAW)
            if not options.probes:
                return start
            return start + probe_proposals(self.space, options.probes, options.probe_tokens, PROBE_DRAW)
        if index == 1:
            genomes = exact_solutions(self.solver, self.table, self.cost, options.sizes, options.variants, rng)
            return [Proposal(genome, options.tokens, FIRST_DRAW, "exact") for genome in genomes]
        measurements = Measurements.of(self.space, self._evaluations)
        children: dict[Genome, Child] = {}
        for space, count in self._spaces(rng):
            children |= self._children(measurements, space, count, rng)
        proposals = []
        for genome, child in children.items():
            # Effects of single sequences average out over many draws; several children share each draw, so that the
            # model can estimate its difficulty.
            draw = FIRST_DRAW + 1 + self._children_count // CHILDREN_PER_DRAW % options.draws
            self._children_count += 1
            if child.model is not None:
                self._predictions[(genome, draw)] = float(child.model.predict(genome.levels[None], draw)[0])
            parents = () if genome in self.best else (child.near,)
            proposals.append(Proposal(genome, options.tokens, draw, child.origin, parents=parents))
        return proposals

    def _spaces(self, rng: np.random.Generator) -> list[tuple[Space, int]]:
        """Return the space, and it at random sizes, one from each equal part of the range; with children of each."""
        count, steps = self.options.offspring, self.options.sizes
        limits = limits_at(self.space, self.cost, (np.arange(steps) + rng.random(steps)) / steps)
        at_limits = round(count * SHARE_AT_LIMITS) if self.space.limits else 0
        rest = [len(part) for part in np.array_split(np.arange(count - at_limits), steps)]
        sizes = [(self.space, at_limits), *zip(map(self._within, limits), rest, strict=True)]
        return [(space, children) for space, children in sizes if children]

    def _within(self, limit: Limit) -> Space:
        return self.space.with_limits([*self.space.limits, limit])

    def _children(
        self, measurements: Measurements, space: Space, count: int, rng: np.random.Generator
    ) -> dict[Genome, Child]:
        """Return solutions of the model around the best genome within a space's limits, then moves from it."""
        best, model = self._best_and_model(measurements, space)
        origins: dict[Genome, str] = {}
        if model is not None:
            repeats = int(count * REMEASURE_SHARE)
            origins = dict.fromkeys(best_measured(model, space)[:repeats], "again")
            origins |= dict.fromkeys(self._solutions(model, space, best, count - repeats, rng), "solution")
        space_moves = list(moves(space).values())
        for _ in range(count - len(origins)):
            origins.setdefault(space_moves[rng.integers(len(space_moves))](space, best, rng), "move")
        return {genome: Child(origin, best, model) for genome, origin in origins.items()}

    def _solutions(
        self, model: Surrogate, space: Space, best: Genome, count: int, rng: np.random.Generator
    ) -> list[Genome]:
        solutions = round(count * (1 - self.options.moves))
        if not solutions or (self.correlation is not None and self.correlation < MIN_CORRELATION):
            return []
        levels, genomes = best.levels.astype(np.int64), []
        for i, table in enumerate([model.mean_table(), *model.sample_tables(solutions - 1, rng)]):
            radius = max(self.options.radius >> i % RADII, 1)
            genomes.append(self.solver.solve(table, space.limits[-1:], (levels - radius, levels + radius))[0])
        return genomes

    def _best_and_model(self, measurements: Measurements, space: Space) -> tuple[Genome, Surrogate | None]:
        """Return the measured genome within a space's limits of the best pessimistic estimate, and the model around it.

        The smallest genome and None if no measured genome is within the limits.
        """
        feasible = np.flatnonzero(space.feasible_rows(measurements.levels))
        if not len(feasible):
            return self.space.smallest, None
        center = int(feasible[measurements.quality[feasible].argmin()])
        for _ in range(2):
            model = Surrogate(self.space, self.table, measurements, center)
            estimates = np.where(space.feasible_rows(model.levels), pessimistic_estimates(model), np.inf)
            center = model.rows[estimates.argmin()]
        return Genome.of(measurements.levels[center]), model

    def learn(self, evaluations: list[Evaluation]) -> None:
        if self.generation_count == 1 and self.options.probes:
            self.table = table_of(self.space, [e for e in evaluations if e.draw == PROBE_DRAW])
        self.adopt(evaluations)

    def adopt(self, evaluations: list[Evaluation]) -> None:
        self._evaluations += [e for e in evaluations if rank(e) != float("inf")]
        for evaluation in evaluations:
            prediction = self._predictions.pop((evaluation.genome, evaluation.draw), None)
            if prediction is not None and rank(evaluation) != float("inf"):
                self._prediction_pairs.append((evaluation.draw, prediction, evaluation.quality))
        if len(self._prediction_pairs) >= MIN_PREDICTIONS:
            draws, *pairs = np.array(self._prediction_pairs).T
            self._update_correlation(draws.astype(np.int64), np.array(pairs))
            self._prediction_pairs = []

    def _update_correlation(self, draws: Any, pairs: Any) -> None:
        """Update the running correlation of predictions and measurements.

        Values are compared relative to the mean of their draw, since draws differ in difficulty.

        Args:
            draws: draw of each child, (children,).
            pairs: predicted and measured qualities, (2, children).
        """
        _, group, count = np.unique(draws, return_inverse=True, return_counts=True)
        centred = [values - (np.bincount(group, values) / count)[group] for values in pairs]
        shared = count[group] > 1
        if shared.any() and all(np.ptp(values[shared]) for values in centred):
            from scipy.stats import spearmanr  # here, since it takes half a second in every worker

            correlation = float(spearmanr(*(values[shared] for values in centred)).statistic)
            rate = CORRELATION_UPDATE_RATE
            self.correlation = (
                correlation if self.correlation is None else rate * correlation + (1 - rate) * self.correlation
            )

    def best_within(self, space: Space) -> Genome | None:
        best, model = self._best_and_model(Measurements.of(self.space, self._evaluations), space)
        return None if model is None else best

    def finalists(self, n: int) -> list[Genome]:
        """Return at most `n` genomes: the best at the limits, and at even sizes below."""
        measurements = Measurements.of(self.space, self._evaluations)
        _, model = self._best_and_model(measurements, self.space)
        if model is None:
            return []
        genomes = best_measured(model, self.space)[: MAX_FINALISTS_AT_LIMITS if self.space.limits else 1]
        smaller = limits_at(self.space, self.cost, np.linspace(0, 1, n + 2)[1:-1])
        genomes += [self._best_and_model(measurements, self._within(limit))[0] for limit in smaller]
        return list(dict.fromkeys(genomes))[:n]

    def report(self) -> dict[str, float]:
        return {} if self.correlation is None else {"surrogate rank correlation": self.correlation}
