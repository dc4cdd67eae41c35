"""Closed-form allocations as searchers: they propose what a rule says and end."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from sparsesearch.config.base import LARGEST
from sparsesearch.searchers.base import Searcher
from sparsesearch.searchers.records import Proposal


class AllocationSearcher(Searcher):
    """A closed-form allocation at the limits or, without limits, at several sizes; it does not search."""

    class Options(Searcher.Options):
        # Selection tokens a candidate; 0 is all of them.
        tokens: int = Field(0, ge=0, le=LARGEST)

    options: Options
    ends_by_itself = True

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if index:
            return []
        return self.starting_proposals(0, self.options.tokens)
