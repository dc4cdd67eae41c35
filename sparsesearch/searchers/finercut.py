"""FinerCut (Zhang et al., 2024, arXiv 2405.18218): drop sublayers one by one, each time the least needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsesearch.errors import problem
from sparsesearch.searchers.base import Searcher, Seeds, rank
from sparsesearch.searchers.option_types import SelectionTokens
from sparsesearch.searchers.records import Evaluation, Proposal
from sparsesearch.space import Genome, Space


class FinerCutSearcher(Searcher):
    """Greedy removal of attention and feed-forward sublayers, re-measured after each; one run gives every depth."""

    class Options(Searcher.Options):
        tokens: SelectionTokens = 2048

    options: Options
    ends_by_itself = True

    def __init__(
        self, space: Space, objectives: Sequence[str], seed: int, options: Searcher.Options, seeds: Seeds | None = None
    ) -> None:
        super().__init__(space, objectives, seed, options, seeds)
        self.parent = space.dense

    def check(self) -> None:
        if not any(unit.is_drop for unit in self.space.units):
            raise problem(
                "SS111",
                "finercut drops sublayers, and this space has no units of that kind.",
                fix="Add {kind: drop_attention} or {kind: drop_ffn}.",
            )

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        tokens = self.options.tokens
        if index == 0:
            return self.starting_proposals(0, tokens)
        levels = self.parent.levels
        present = [i for i, unit in enumerate(self.space.units) if unit.is_drop and not levels[i]]
        children = [Genome.of(np.where(np.arange(len(levels)) == i, 1, levels)) for i in present]
        return [Proposal(child, tokens, 0, "finercut", parents=(self.parent,)) for child in children]

    def learn(self, evaluations: list[Evaluation]) -> None:
        children = [e for e in evaluations if e.parents]
        if children:
            self.parent = min(children, key=rank).genome
