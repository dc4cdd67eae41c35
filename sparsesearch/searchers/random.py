"""Random search: the control for all other searchers."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from sparsesearch.config.base import LARGEST, MANY
from sparsesearch.searchers.base import Proposal, Searcher
from sparsesearch.space.sampling import random_genome


class RandomSearcher(Searcher):
    """Feasible genomes spread over the whole range of sizes, all measured on the same tokens."""

    class Options(Searcher.Options):
        # Selection tokens a candidate; 0 is all of them.
        tokens: int = Field(2048, ge=0, le=LARGEST)
        # Candidates a generation.
        batch: int = Field(32, ge=1, le=MANY)
        # Sizes of uniform genomes, and of allocations among `search.seeds`, in generation 0.
        sizes: int = Field(8, ge=0, le=MANY)

    options: Options
    screens = True

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        start = self.starting(self.options.sizes) if index == 0 else {}
        known = [Proposal(genome, self.options.tokens, 0, name) for name, genome in start.items()]
        drawn = [random_genome(self.space, rng) for _ in range(self.made(self.options.batch))]
        drawn = self.screened(drawn, self.objectives[1:], rng)
        return known + [Proposal(g, self.options.tokens, 0, "random") for g in drawn if g not in start.values()]
