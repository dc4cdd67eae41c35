"""Closed-form allocations as searchers: they propose the genomes of a rule, and end."""

from __future__ import annotations

import numpy as np

from sparsesearch.searchers.base import Searcher
from sparsesearch.searchers.option_types import SelectionTokens
from sparsesearch.searchers.records import Proposal


class AllocationSearcher(Searcher):
    """A closed-form allocation at the limits or, without limits, at several sizes; it does not search."""

    class Options(Searcher.Options):
        tokens: SelectionTokens = 0

    options: Options
    ends_by_itself = True

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if index:
            return []
        return self.starting_proposals(0, self.options.tokens)
