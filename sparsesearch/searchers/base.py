"""The seam between searchers and everything else: ask for proposals, tell evaluations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparsesearch import pareto
from sparsesearch.config import Strict
from sparsesearch.config.base import LARGEST
from sparsesearch.errors import problem
from sparsesearch.plugins import describe_value, plugin, wrong_return_value
from sparsesearch.searchers.records import ROLES, Evaluation, Proposal
from sparsesearch.searchers.screening import Screen
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import starting_genomes

Seeds = Mapping[str, Genome]
# Stands for objectives of a candidate that has none: worse than anything real, yet finite for libraries.
WORST = 1e30


@dataclass(frozen=True)
class Traits:
    """Answers of a searcher to checks that are made before a run.

    Attributes:
        first_tokens: selection tokens of its first proposal, 0 for all there are; None if it proposes nothing.
        training: tokens of training that proposals may ask for, rising.
    """

    first_tokens: int | None
    training: tuple[int, ...] = ()


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

    @classmethod
    def describe(cls, space: Space, objectives: Sequence[str], options: Options) -> Traits:
        """Return the traits of this searcher on a space; nothing of it is kept.

        Raises InputError if it cannot take the space, or proposes what cannot be measured.
        """
        draft = cls(space, objectives, 0, options)
        first = draft.ask(1)
        return Traits(first[0].tokens if first else None, tuple(draft.training))

    def check(self) -> None:
        """Raise InputError where the searcher cannot take the space; called before anything is measured."""

    def starting(self, sizes: int) -> dict[str, Genome]:
        """What generation 0 holds: dense, uniform genomes (with `sizes` steps), and the seeds; each genome once."""
        named = starting_genomes(self.space, sizes)
        taken = set(named.values())
        return named | {name: genome for name, genome in self.given.items() if genome not in taken}

    def starting_proposals(self, sizes: int, tokens: int, draw: int = 0) -> list[Proposal]:
        """Return proposals of the genomes of `starting`; dense and uniform ones are baselines."""
        baselines = set(starting_genomes(self.space, sizes).values())
        return [
            Proposal(genome, tokens, draw, name, role="baseline" if genome in baselines else "search")
            for name, genome in self.starting(sizes).items()
        ]

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

    def ask(self, n: int | None = None) -> list[Proposal]:
        """Return up to `n` proposals, all there are if None.

        There are none while a generation awaits evaluations, or when the search has ended.
        """
        if not self._queue and not self._finished and not (self._batch and self.waits):
            proposals = self._proposed()
            self._queue = list({(p.genome, p.draw): p for p in proposals}.values())
            self._batch += self._queue
            self._finished = not self._batch
            self.index += 1
        count = len(self._queue) if n is None else n
        portion, self._queue = self._queue[:count], self._queue[count:]
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
    if proposal.role not in ROLES:
        return f"role {proposal.role!r}, not one of {', '.join(ROLES)}"
    for name in ("tokens", "draw", "trained"):
        value = getattr(proposal, name)
        if not isinstance(value, (int, np.integer)) or not 0 <= value <= LARGEST:
            return f"{name} {describe_value(value)}, not an integer from 0"
    return "" if isinstance(proposal.origin, str) else f"an origin that is no text: {describe_value(proposal.origin)}"


def rank(evaluation: Evaluation) -> float:
    """Quality to sort by; candidates without one come last."""
    return evaluation.quality if evaluation.status == "ok" and math.isfinite(evaluation.quality) else math.inf
