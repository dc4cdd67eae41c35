"""The seam between searchers and everything else: ask for proposals, tell evaluations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from sparsesearch import pareto
from sparsesearch.config import Strict
from sparsesearch.config.base import LARGEST
from sparsesearch.errors import problem
from sparsesearch.plugins import describe_value, plugin, wrong_return_value
from sparsesearch.searchers.screening import Screen
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import starting_genomes

Seeds = Mapping[str, Genome]
# Stands for objectives of a candidate that has none: worse than anything real, yet finite for libraries.
WORST = 1e30
Status = Literal["ok", "invalid", "failed"]


@dataclass(frozen=True)
class Proposal:
    """A request to measure a genome.

    Attributes:
        tokens: selection tokens to spend; 0 for all there are.
        draw: which random sequences; proposals with equal `tokens` and `draw` are measured on the same ones, and
            smaller token counts of one draw are nested in larger ones.
        origin: where the genome comes from, for reports: `dense`, `uniform`, `random`, `mutation`, ...
        trained: tokens of training that go before, from the supernet's weights.
        parents: the genomes that this one was made of or is a solution near; of several proposals of a genome, what
            the first one says counts.
    """

    genome: Genome
    tokens: int
    draw: int
    origin: str
    trained: int = 0
    parents: tuple[Genome, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        sequences, draw: how many selection sequences, and which.
        status: `ok`, `invalid` (a non-finite objective) or `failed` (an exception, in `error`).
        quality: the first objective; not finite unless `ok`.
        losses: mean loss of each sequence, in the draw's order.
        known: how many of the sequences had been measured before, for other draws or fewer tokens.
        trained: training tokens that went before.
        parents: ids of those of its proposal.
    """

    genome: Genome
    sequences: int
    draw: int
    origin: str
    status: Status
    quality: float
    costs: dict[str, int]
    losses: tuple[float, ...] = ()
    error: str = ""
    known: int = 0
    trained: int = 0
    parents: tuple[str, ...] = ()

    def __repr__(self) -> str:
        costs = ", ".join(f"{name}={value:,}" for name, value in self.costs.items())
        return f"Evaluation({self.genome.id} ({self.origin}), quality={self.quality:.4g}, {costs})"

    def _repr_html_(self) -> str:
        """What notebooks show."""
        facts = [("quality", f"{self.quality:.4g}"), *((name, f"{value:,}") for name, value in self.costs.items())]
        rows = Markup().join(Markup("<tr><td>{}</td><td>{}</td></tr>").format(*fact) for fact in facts)
        return Markup("<table><tr><th>{}</th><th>{}</th></tr>{}</table>").format(self.genome.id, self.origin, rows)

    def values(self, quality_name: str) -> dict[str, float]:
        """Quality and costs by name."""
        return {quality_name: self.quality, **self.costs}


class Searcher(ABC):
    """Base of all searchers: generations, asked for in any portions, whatever the number of workers.

    A subclass says what the next generation is (`generation`) and learns from it when it is complete (`learn`).
    Everything random comes from generators seeded with (seed, generation), so a replay repeats it exactly.
    """

    class Options(Strict):
        """Options of the searcher, validated."""

    # Whether `generation` ends the search without a budget.
    ends_by_itself = False
    # Whether it makes children that a proxy can choose among, and what chooses.
    screens = False
    screen: Screen | None = None
    # Whether it can go on while evaluations are missing; `asynchronous` then asks for that.
    overlaps = False
    asynchronous = False

    def __init__(
        self, space: Space, objectives: Sequence[str], seed: int, options: Options, seeds: Seeds | None = None
    ) -> None:
        """
        Args:
            space: units, costs and limits.
            objectives: quality first, then names of costs; all minimised.
            seed: of every random choice.
            options: an instance of the class's `Options`.
            seeds: further genomes for generation 0, by name.
        """
        self.space, self.objectives, self.seed, self.options = space, tuple(objectives), seed, options
        self.given: Seeds = seeds or {}
        self.index = 0
        self._queue: list[Proposal] = []
        self._batch: list[Proposal] = []
        self._told: dict[tuple[Genome, int], Evaluation] = {}
        self._finished = False
        self.best: dict[Genome, Evaluation] = {}
        self.check()

    def check(self) -> None:
        """Raise InputError where the searcher cannot take the space; called before anything is measured."""

    def starting(self, sizes: int) -> dict[str, Genome]:
        """What generation 0 holds: dense, uniform genomes (with `sizes` steps), and the seeds; each genome once."""
        named = starting_genomes(self.space, sizes)
        taken = set(named.values())
        return named | {name: genome for name, genome in self.given.items() if genome not in taken}

    @abstractmethod
    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        """Proposals of generation `index`; an empty list ends the search."""

    def learn(self, evaluations: list[Evaluation]) -> None:
        """Take in a complete generation, in the order it was proposed."""

    def made(self, count: int) -> int:
        """How many children to make, so that `screened` leaves `count`."""
        return count * (self.screen.children if self.screen else 1)

    def screened(self, children: Sequence[Genome], costs: Sequence[str], rng: np.random.Generator) -> list[Genome]:
        """The children that are worth measuring, by the proxy and by costs; all where there is no proxy."""
        if self.screen is None or not children:
            return list(children)
        return [children[i] for i in self.screen.chosen(self.space, children, costs, rng)]

    @property
    def training(self) -> list[int]:
        """Tokens of training that proposals may ask for, rising; empty where none is trained."""
        return []

    @property
    def waits(self) -> bool:
        """Whether a generation must be complete before the next one is asked for."""
        return not self.asynchronous

    def report(self) -> dict[str, float]:
        """What it has learned about how to search, by name, for whoever watches."""
        return {}

    def adopt(self, evaluations: list[Evaluation]) -> None:
        """Take in evaluations that were not asked for; for searchers that overlap."""
        raise NotImplementedError

    def ask(self, n: int) -> list[Proposal]:
        """Up to `n` proposals; none while a generation awaits evaluations, or when the search has ended."""
        if not self._queue and not self._finished and not (self._batch and self.waits):
            proposals = self._proposed()
            self._queue = list({(p.genome, p.draw): p for p in proposals}.values())
            self._batch += self._queue
            self._finished = not self._batch
            self.index += 1
        portion, self._queue = self._queue[:n], self._queue[n:]
        return portion

    def _proposed(self) -> list[Proposal]:
        """The next generation; raises InputError SS127 where it holds what cannot be measured."""
        name = f"searcher {type(self).__name__}"
        with plugin(name):
            found = self.generation(self.index, np.random.default_rng([self.seed, self.index]))
        if not isinstance(found, (list, tuple)):
            raise wrong_return_value(name, found, "a list of proposals")
        for proposal in found:
            if fault := _problem(proposal, self.space):
                raise problem("SS127", f"{name} proposed what cannot be measured: {fault}.", fix="Mend it.")
        return list(found)

    def _take_in(self, evaluations: list[Evaluation]) -> None:
        with plugin(f"searcher {type(self).__name__}"):
            self.learn(evaluations)

    def put_back(self, proposals: Sequence[Proposal]) -> None:
        """Take back proposals that were not measured; `ask` gives them again."""
        self._queue = [*proposals, *self._queue]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take in evaluations of proposals, in any order."""
        for evaluation in evaluations:
            self._told[(evaluation.genome, evaluation.draw)] = evaluation
            known = self.best.get(evaluation.genome)
            if evaluation.status == "ok" and (known is None or evaluation.sequences >= known.sequences):
                self.best[evaluation.genome] = evaluation
        if not self.waits:
            self._batch = [p for p in self._batch if (p.genome, p.draw) not in self._told]
            self._told = {}
            self._take_in(list(evaluations))
        elif self._batch and not self._queue and all((p.genome, p.draw) in self._told for p in self._batch):
            done = [self._told[(p.genome, p.draw)] for p in self._batch]
            self._batch, self._told = [], {}
            self._take_in(done)

    def finalists(self, n: int) -> list[Genome]:
        """At most `n` genomes that deserve all selection data: the spread of the front found so far.

        Only the most thorough measurements count: few samples flatter.
        """
        inside = [e for e in self.best.values() if self.space.feasible(e.genome)]
        most = max((e.sequences for e in inside), default=0)
        inside = [e for e in inside if e.sequences == most]
        points = [self.point(e) for e in inside]
        return [inside[i].genome for i in pareto.spread(points, n)] if inside else []

    def best_within(self, space: Space) -> Genome | None:
        """Return the best measured genome under the limits of a space, or None.

        Args:
            space: the searcher's, with other limits.
        """
        inside = [e for e in self.best.values() if space.feasible(e.genome)]
        most = max((e.sequences for e in inside), default=0)
        return min((e for e in inside if e.sequences == most), key=rank).genome if inside else None

    def point(self, evaluation: Evaluation) -> list[float]:
        """Objectives in order."""
        values = evaluation.values(self.objectives[0])
        return [float(values[name]) for name in self.objectives]


def _problem(proposal: Proposal, space: Space) -> str:
    """Why a proposal cannot be measured in a space; '' where it can."""
    if not isinstance(proposal, Proposal):
        return f"{describe_value(proposal)} is no Proposal"
    genome = proposal.genome
    if not isinstance(genome, Genome):
        return f"{describe_value(genome)} is no Genome"
    if len(genome.data) != 2 * len(space.units):
        return f"a genome of {len(genome)} levels, the space has {len(space.units)} units"
    outside = np.flatnonzero((genome.levels < 0) | (genome.levels > space.max_levels))
    if outside.size:
        unit = int(outside[0])
        return f"level {genome.levels[unit]} of {space.units[unit].name}, whose last is {space.max_levels[unit]}"
    for name in ("tokens", "draw", "trained"):
        value = getattr(proposal, name)
        if not isinstance(value, (int, np.integer)) or not 0 <= value <= LARGEST:
            return f"{name} {describe_value(value)}, not an integer from 0"
    return "" if isinstance(proposal.origin, str) else f"an origin that is no text: {describe_value(proposal.origin)}"


def rank(evaluation: Evaluation) -> float:
    """Quality to sort by; candidates without one come last."""
    return evaluation.quality if evaluation.status == "ok" and math.isfinite(evaluation.quality) else math.inf
