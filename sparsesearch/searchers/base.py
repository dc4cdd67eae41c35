"""The interface of searchers: `ask` returns proposals, `tell` takes evaluations."""

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
from sparsesearch.searchers.records import ROLES, Evaluation, Proposal, role_of_start
from sparsesearch.searchers.screening import Screen
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import starting_genomes

Seeds = Mapping[str, Genome]
# Objective value of a candidate without one: worse than any real value, yet finite, which libraries need.
WORST = 1e30


@dataclass(frozen=True)
class Traits:
    """Properties of a searcher that are checked before a run.

    Attributes:
        first_tokens: selection tokens of its first proposal, 0 for all; None if it proposes nothing.
        training: training tokens that proposals may have, rising.
    """

    first_tokens: int | None
    training: tuple[int, ...] = ()


class Searcher(ABC):
    """Base of all searchers, which propose generations; `ask` returns these in portions of any size.

    A subclass proposes the next generation (`generation`) and learns from it when it is complete (`learn`). All random
    numbers come from generators seeded with (seed, generation), so that a replay repeats them exactly.

    Attributes:
        generation_count: number of generations proposed so far; while the evaluations of one arrive, its index plus 1.
        best: the most thorough successful evaluation of every genome.
        further_seeds: genomes for generation 0 beside dense and uniform ones, by name.
    """

    class Options(Strict):
        """Options of the searcher, validated."""

    # Whether `generation` ends the search without a budget.
    ends_by_itself = False
    # Whether it has children that a proxy can screen, and the screen in use.
    screens = False
    screen: Screen | None = None
    # Whether it can propose while evaluations are missing, and whether it should.
    overlaps = False
    asynchronous = False

    def __init__(
        self, space: Space, objectives: Sequence[str], seed: int, options: Options, seeds: Seeds | None = None
    ) -> None:
        """
        Args:
            space: units, costs and limits.
            objectives: quality first, then names of costs; all minimised.
            seed: random seed.
            options: an instance of the class's `Options`.
            seeds: further genomes for generation 0, by name.
        """
        self.space, self.objectives, self.seed, self.options = space, tuple(objectives), seed, options
        self.further_seeds: Seeds = seeds or {}
        self.generation_count = 0
        self._queue: list[Proposal] = []
        self._batch: list[Proposal] = []
        self._received: dict[tuple[Genome, int], Evaluation] = {}
        self._finished = False
        self.best: dict[Genome, Evaluation] = {}
        self.check()

    @classmethod
    def describe(cls, space: Space, objectives: Sequence[str], options: Options) -> Traits:
        """Return the traits of this searcher on a space, from a temporary instance.

        Raises InputError if it cannot take the space, or its first proposals cannot be measured.
        """
        draft = cls(space, objectives, 0, options)
        first = draft.ask(1)
        return Traits(first[0].tokens if first else None, tuple(draft.training))

    def check(self) -> None:
        """Raise InputError if the searcher cannot take the space; called before anything is measured."""

    def starting(self, sizes: int) -> dict[str, Genome]:
        """Return the genomes of generation 0: dense, uniform ones (`sizes` steps) and seeds; each genome once."""
        baselines = starting_genomes(self.space, sizes)
        present = set(baselines.values())
        return baselines | {name: genome for name, genome in self.further_seeds.items() if genome not in present}

    def starting_proposals(self, sizes: int, tokens: int, draw: int = 0) -> list[Proposal]:
        """Return proposals of the genomes of `starting`."""
        return [
            Proposal(genome, tokens, draw, name, role=role_of_start(name))
            for name, genome in self.starting(sizes).items()
        ]

    @abstractmethod
    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        """Return the proposals of generation `index`; an empty list ends the search.

        Args:
            rng: generator of all random choices.
        """

    def learn(self, evaluations: list[Evaluation]) -> None:
        """Take in a complete generation, in the order it was proposed."""

    def children_to_generate(self, count: int) -> int:
        """Return the number of children to generate, so that `screen_children` returns `count`."""
        return count * (self.screen.children if self.screen else 1)

    def screen_children(
        self, children: Sequence[Genome], costs: Sequence[str], rng: np.random.Generator
    ) -> list[Genome]:
        """Return the children to measure, chosen by the proxy and costs; all children without a proxy.

        Args:
            costs: names of costs that count beside the proxy's score.
        """
        if self.screen is None or not children:
            return list(children)
        return [children[i] for i in self.screen.choose(self.space, children, costs, rng)]

    @property
    def training(self) -> list[int]:
        """Training tokens that proposals may have, rising; empty if none is trained."""
        return []

    @property
    def waits(self) -> bool:
        """Whether a generation must be complete before the next one can be asked for."""
        return not self.asynchronous

    def report(self) -> dict[str, float]:
        """Return numbers on the state of the search by name, for `generations.jsonl`."""
        return {}

    def adopt(self, evaluations: list[Evaluation]) -> None:
        """Learn from evaluations that this instance did not propose; for searchers with `overlaps`."""
        raise NotImplementedError

    def ask(self, n: int | None = None) -> list[Proposal]:
        """Return up to `n` proposals, or all if None.

        The list is empty while a generation awaits evaluations, and when the search has ended.
        """
        if not self._queue and not self._finished and not (self._batch and self.waits):
            proposals = self._next_generation()
            self._queue = list({(p.genome, p.draw): p for p in proposals}.values())
            self._batch += self._queue
            self._finished = not self._batch
            self.generation_count += 1
        count = len(self._queue) if n is None else n
        portion, self._queue = self._queue[:count], self._queue[count:]
        return portion

    def _next_generation(self) -> list[Proposal]:
        """Return the next generation; raises InputError SS127 if one of its proposals cannot be measured."""
        name = f"searcher {type(self).__name__}"
        with plugin(name):
            index = self.generation_count
            proposals = self.generation(index, np.random.default_rng([self.seed, index]))
        if not isinstance(proposals, (list, tuple)):
            raise wrong_return_value(name, proposals, "a list of proposals")
        for proposal in proposals:
            if fault := _fault_of(proposal, self.space):
                raise problem("SS127", f"{name} made an invalid proposal: {fault}.", fix="Correct the searcher.")
        return list(proposals)

    def _take_in(self, evaluations: list[Evaluation]) -> None:
        with plugin(f"searcher {type(self).__name__}"):
            self.learn(evaluations)

    def put_back(self, proposals: Sequence[Proposal]) -> None:
        """Take back proposals that were not measured; `ask` returns them again."""
        self._queue = [*proposals, *self._queue]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take in evaluations of proposals, in any order."""
        for evaluation in evaluations:
            self._received[(evaluation.genome, evaluation.draw)] = evaluation
            previous = self.best.get(evaluation.genome)
            if evaluation.status == "ok" and (previous is None or evaluation.sequences >= previous.sequences):
                self.best[evaluation.genome] = evaluation
        if not self.waits:
            self._batch = [p for p in self._batch if (p.genome, p.draw) not in self._received]
            self._received = {}
            self._take_in(list(evaluations))
        elif self._batch and not self._queue and all((p.genome, p.draw) in self._received for p in self._batch):
            generation = [self._received[(p.genome, p.draw)] for p in self._batch]
            self._batch, self._received = [], {}
            self._take_in(generation)

    def finalists(self, n: int) -> list[Genome]:
        """Return at most `n` genomes to measure on all selection data, spread over the front so far.

        Only measurements on the most sequences count, since the best of many on few samples is overestimated.
        """
        candidates = [e for e in self.best.values() if self.space.feasible(e.genome)]
        most = max((e.sequences for e in candidates), default=0)
        candidates = [e for e in candidates if e.sequences == most]
        points = [self.point(e) for e in candidates]
        return [candidates[i].genome for i in pareto.spread(points, n)] if candidates else []

    def best_within(self, space: Space) -> Genome | None:
        """Return the best measured genome under the limits of a space, or None.

        Args:
            space: the searcher's space with other limits.
        """
        candidates = [e for e in self.best.values() if space.feasible(e.genome)]
        most = max((e.sequences for e in candidates), default=0)
        return min((e for e in candidates if e.sequences == most), key=rank).genome if candidates else None

    def point(self, evaluation: Evaluation) -> list[float]:
        """Return the objectives of an evaluation in order, (objectives,)."""
        values = evaluation.values(self.objectives[0])
        return [float(values[name]) for name in self.objectives]


def _fault_of(proposal: Proposal, space: Space) -> str:
    """Return the reason why a proposal cannot be measured in a space; an empty text if it can."""
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
    """Return the quality to sort by; infinite for candidates without one."""
    return evaluation.quality if evaluation.status == "ok" and math.isfinite(evaluation.quality) else math.inf
