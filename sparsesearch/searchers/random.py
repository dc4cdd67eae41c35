"""Random search: the control for all other searchers."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from sparsesearch.config.base import MANY
from sparsesearch.searchers.base import Searcher
from sparsesearch.searchers.option_types import SelectionTokens, UniformSizes
from sparsesearch.searchers.records import Proposal
from sparsesearch.space.sampling import random_genome


class RandomSearcher(Searcher):
    """Feasible genomes spread over the whole range of sizes, all measured on the same tokens."""

    class Options(Searcher.Options):
        tokens: SelectionTokens = 2048
        batch: int = Field(32, ge=1, le=MANY, description="Candidates in a generation.")
        sizes: UniformSizes = 8

    options: Options
    screens = True

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        start = self.starting_proposals(self.options.sizes, self.options.tokens) if index == 0 else []
        start_genomes = {proposal.genome for proposal in start}
        children = [random_genome(self.space, rng) for _ in range(self.children_to_generate(self.options.batch))]
        children = self.screen_children(children, self.objectives[1:], rng)
        return start + [Proposal(g, self.options.tokens, 0, "random") for g in children if g not in start_genomes]
