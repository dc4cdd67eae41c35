"""Measure units alone, solve, measure, learn, solve again: exact solutions of a model that measurements correct.

Generation 0 measures seeds, and units alone; exact solutions of the additive model follow. Then each generation fits a
model around the best genome of each of some sizes, and measures exact solutions of samples of it near that genome,
beside random moves. No sequence decides alone: children take turns on draws of sequences, a few on each, and the model
tells what is the draw's from what is the child's.
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
from sparsesearch.searchers.exact.additive import alone, table_of
from sparsesearch.searchers.exact.searchers import pool
from sparsesearch.searchers.exact.solvers import limits_at, solver_of
from sparsesearch.searchers.option_types import SelectionTokens
from sparsesearch.searchers.records import Evaluation, Proposal
from sparsesearch.space import Genome, Limit, Space

# Draws on which units are measured alone, and on which seeds and the first solutions are.
ALONE, FIRST = 0, 1
# Rank correlation of predictions and measurements below which predictions are not used.
TRUSTED = 0.3
# Weight of the newest predictions in the running correlation, and how many are compared at once, at least.
MEMORY, COMPARED = 0.5, 8
# Children in a row that are measured on the same draw.
TOGETHER = 8
# Share of children that are the best so far, measured again: many are about as good, and one measurement says little.
AGAIN = 0.125
# Standard deviations of its prediction that are held against a genome.
DOUBTED = 1.0
# Solutions are looked for within the whole radius, half of it, a quarter, in turn: sums hold further in some networks.
RADII = 3
# Share of children at the limits, where there are any, and how many finalists.
AT_LIMITS, FINALISTS = 0.75, 4


def safe(model: Surrogate) -> Floats:
    """What each measured genome is hardly worse than, (rows,): expectations alone would choose what flatters."""
    return model.estimates + DOUBTED * model.doubts


def leading(model: Surrogate, space: Space) -> list[Genome]:
    """The measured genomes within a space's limits, the one that is expected to be best first."""
    inside = np.flatnonzero(space.feasible_rows(model.levels))
    return list(dict.fromkeys(Genome.of(model.levels[i]) for i in inside[safe(model)[inside].argsort()]))


class Child(NamedTuple):
    """How a child was made: near which genome, and by which model if any."""

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
            description="Number of levels of each unit that are measured with all other units dense; 0: none, the loss "
            "of a unit is at first taken for the square of the share that it removes.",
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
        # Children so far, and what was expected of those that are not measured yet.
        self._asked = 0
        self._expected: dict[tuple[Genome, int], float] = {}
        # Rank correlation of what was predicted of children with what was measured, over recent ones.
        self.correlation: float | None = None
        self._known: list[Evaluation] = []
        self._compared: list[tuple[int, float, float]] = []

    def check(self) -> None:
        self.solver = solver_of(self.space)

    @property
    def waits(self) -> bool:
        return super().waits or self.index <= 2

    # What is proposed

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        options = self.options
        if index == 0:
            named = self.starting_proposals(options.sizes, options.tokens, FIRST)
            return named + (alone(self.space, options.probes, options.probe_tokens, ALONE) if options.probes else [])
        if index == 1:
            found = pool(self.solver, self.table, self.cost, options.sizes, options.variants, rng)
            return [Proposal(genome, options.tokens, FIRST, "exact") for genome in found]
        known = Measurements.of(self.space, self._known)
        children: dict[Genome, Child] = {}
        for space, count in self._sizes(rng):
            children |= self._children(known, space, count, rng)
        proposals = []
        for genome, child in children.items():
            # What is peculiar to some sequences averages out where children take turns on many draws; several share
            # each, so that the model can tell how hard it is.
            draw = FIRST + 1 + self._asked // TOGETHER % options.draws
            self._asked += 1
            if child.model is not None:
                self._expected[(genome, draw)] = float(child.model.predict(genome.levels[None], draw)[0])
            parents = () if genome in self.best else (child.near,)
            proposals.append(Proposal(genome, options.tokens, draw, child.origin, parents=parents))
        return proposals

    def _sizes(self, rng: np.random.Generator) -> list[tuple[Space, int]]:
        """The space within its limits and at random sizes, one from each equal part of the range; children of each."""
        count, steps = self.options.offspring, self.options.sizes
        drawn = limits_at(self.space, self.cost, (np.arange(steps) + rng.random(steps)) / steps)
        at_limits = round(count * AT_LIMITS) if self.space.limits else 0
        rest = [len(part) for part in np.array_split(np.arange(count - at_limits), steps)]
        found = [(self.space, at_limits), *zip(map(self._within, drawn), rest, strict=True)]
        return [(space, children) for space, children in found if children]

    def _within(self, limit: Limit) -> Space:
        return self.space.with_limits([*self.space.limits, limit])

    def _children(self, known: Measurements, space: Space, count: int, rng: np.random.Generator) -> dict[Genome, Child]:
        """Solutions of the model around the best genome within a space's limits, then moves from it."""
        best, model = self._best(known, space)
        origins: dict[Genome, str] = {}
        if model is not None:
            again = int(count * AGAIN)
            origins = dict.fromkeys(leading(model, space)[:again], "again")
            origins |= dict.fromkeys(self._solutions(model, space, best, count - again, rng), "solution")
        ways = list(moves(space).values())
        for _ in range(count - len(origins)):
            origins.setdefault(ways[rng.integers(len(ways))](space, best, rng), "move")
        return {genome: Child(origin, best, model) for genome, origin in origins.items()}

    def _solutions(
        self, model: Surrogate, space: Space, best: Genome, count: int, rng: np.random.Generator
    ) -> list[Genome]:
        wanted = round(count * (1 - self.options.moves))
        if not wanted or (self.correlation is not None and self.correlation < TRUSTED):
            return []
        levels, found = best.levels.astype(np.int64), []
        for i, table in enumerate([model.mean(), *model.samples(wanted - 1, rng)]):
            radius = max(self.options.radius >> i % RADII, 1)
            found.append(self.solver.solve(table, space.limits[-1:], (levels - radius, levels + radius))[0])
        return found

    def _best(self, known: Measurements, space: Space) -> tuple[Genome, Surrogate | None]:
        """The measured genome within a space's limits that is expected to be the best, and the model around it."""
        inside = np.flatnonzero(space.feasible_rows(known.levels))
        if not len(inside):
            return self.space.smallest, None
        center = int(inside[known.quality[inside].argmin()])
        for _ in range(2):
            model = Surrogate(self.space, self.table, known, center)
            center = model.rows[np.where(space.feasible_rows(model.levels), safe(model), np.inf).argmin()]
        return Genome.of(known.levels[center]), model

    # What is learned

    def learn(self, evaluations: list[Evaluation]) -> None:
        if self.index == 1 and self.options.probes:
            self.table = table_of(self.space, [e for e in evaluations if e.draw == ALONE])
        self.adopt(evaluations)

    def adopt(self, evaluations: list[Evaluation]) -> None:
        self._known += [e for e in evaluations if rank(e) != float("inf")]
        for evaluation in evaluations:
            expected = self._expected.pop((evaluation.genome, evaluation.draw), None)
            if expected is not None and rank(evaluation) != float("inf"):
                self._compared.append((evaluation.draw, expected, evaluation.quality))
        if len(self._compared) >= COMPARED:
            draws, *pairs = np.array(self._compared).T
            self._judge(draws.astype(np.int64), np.array(pairs))
            self._compared = []

    def _judge(self, draws: Any, pairs: Any) -> None:
        """Compare predictions and measurements, (2, children), within draws, which differ in themselves."""
        _, group, count = np.unique(draws, return_inverse=True, return_counts=True)
        within = [values - (np.bincount(group, values) / count)[group] for values in pairs]
        among = count[group] > 1
        if among.any() and all(np.ptp(values[among]) for values in within):
            from scipy.stats import spearmanr  # its room takes half a second to open, in every worker

            found = float(spearmanr(*(values[among] for values in within)).statistic)
            self.correlation = found if self.correlation is None else MEMORY * found + (1 - MEMORY) * self.correlation

    def chosen(self, space: Space) -> Genome | None:
        best, model = self._best(Measurements.of(self.space, self._known), space)
        return None if model is None else best

    def finalists(self, n: int) -> list[Genome]:
        """The best at the limits, and at even sizes below."""
        known = Measurements.of(self.space, self._known)
        _, model = self._best(known, self.space)
        if model is None:
            return []
        found = leading(model, self.space)[: FINALISTS if self.space.limits else 1]
        smaller = limits_at(self.space, self.cost, np.linspace(0, 1, n + 2)[1:-1])
        found += [self._best(known, self._within(limit))[0] for limit in smaller]
        return list(dict.fromkeys(found))[:n]

    def report(self) -> dict[str, float]:
        return {} if self.correlation is None else {"surrogate rank correlation": self.correlation}
