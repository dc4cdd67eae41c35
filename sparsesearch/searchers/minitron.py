"""Minitron's architecture search (Muralidharan et al., 2024, arXiv 2407.14679): a grid of homogeneous networks.

All units of a kind keep the same share. Of the networks within the limits the largest are measured; `search.rungs`
then distils the best of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from sparsesearch.config.base import MANY
from sparsesearch.errors import problem
from sparsesearch.searchers.base import Searcher, Seeds, rank
from sparsesearch.searchers.option_types import SelectionTokens
from sparsesearch.searchers.records import Evaluation, Proposal
from sparsesearch.space import Genome, Space
from sparsesearch.space.unit import CUT_KINDS


class MinitronSearcher(Searcher):
    """Homogeneous widths and depths, without the least needed blocks: the largest within the limits are measured."""

    class Options(Searcher.Options):
        top: int = Field(
            10,
            ge=1,
            le=MANY,
            description="Number of networks that are measured, the largest within the limits by the first cost.",
        )
        steps: int = Field(
            8,
            ge=1,
            le=MANY,
            description="Number of even steps from dense to the last level, for each kind of width.",
        )
        depth: float = Field(0.2, ge=0, lt=1, description="Largest share, below 1, of the blocks that is dropped.")
        tokens: SelectionTokens = 0

    options: Options
    ends_by_itself = True

    def __init__(
        self, space: Space, objectives: Sequence[str], seed: int, options: Searcher.Options, seeds: Seeds | None = None
    ) -> None:
        # Blocks that can be dropped, the least needed first.
        self.droppable = sorted({unit.block for unit in space.units if unit.is_drop})
        super().__init__(space, objectives, seed, options, seeds)

    def check(self) -> None:
        if not self.space.bounds:
            raise problem(
                "SS106",
                "minitron measures the largest networks at a limit, and the recipe has none.",
                fix="Give limits such as 'params<=60%' (--limit).",
            )
        if not any(unit.is_cut or unit.is_drop for unit in self.space.units):
            raise problem("SS111", "minitron searches widths and depth, and this space has no units of these kinds.")
        if not self.largest():
            raise problem(
                "SS106",
                f"{self.space.bounds[0].text}: no homogeneous network with at most {self.options.depth:.0%} "
                "of the blocks dropped meets it.",
                fix="Raise the limit or search.options.depth, or give smaller levels.",
            )

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        tokens = self.options.tokens
        if index == 0:
            probes = [Proposal(self._without([block]), tokens, 0, f"without {block}") for block in self.droppable]
            return [*self.starting_proposals(0, tokens), *probes]
        if index == 1:
            return [Proposal(genome, tokens, 0, "homogeneous") for genome in self.largest()]
        return []

    def learn(self, evaluations: list[Evaluation]) -> None:
        losses = {e.genome: rank(e) for e in evaluations}
        self.droppable.sort(key=lambda block: losses.get(self._without([block]), 0.0))

    def largest(self) -> list[Genome]:
        """Return the largest genomes of the grid within the limits, by the first cost."""
        cost, feasible = self.objectives[1], [g for g in self.grid() if self.space.feasible(g)]
        feasible.sort(key=lambda genome: -self.space.costs.named(genome.levels)[cost])
        return feasible[: self.options.top]

    def grid(self) -> list[Genome]:
        """Return every combination of one share for each kind of width, and of a number of dropped blocks."""
        kinds = [kind for kind in CUT_KINDS if kind in self.space.kinds]
        shares = np.linspace(0, 1, self.options.steps + 1)
        depths = range(int(self.options.depth * len(self.droppable)) + 1)
        genomes: dict[Genome, None] = {}
        for dropped, *kind_shares in itertools.product(depths, *[shares] * len(kinds)):
            levels = self._without(self.droppable[:dropped]).levels.copy()
            for kind, share in zip(kinds, kind_shares, strict=True):
                of_kind = self.space.kinds == kind
                levels[of_kind] = np.rint(share * self.space.max_levels[of_kind])
            genomes[Genome.of(levels)] = None
        return list(genomes)

    def _without(self, blocks: Sequence[int]) -> Genome:
        return Genome.of((np.isin(self.space.blocks, list(blocks)) & self.space.drops).astype(np.int16))
