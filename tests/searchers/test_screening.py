"""A screen: the best of many children are measured, some blindly, and what could not be told is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import synthetic_space

from sparsesearch.searchers import Evaluation
from sparsesearch.searchers.registry import SEARCHERS, create
from sparsesearch.searchers.screening import Screen
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import random_genome

SCREENED = [name for name, cls in SEARCHERS.items() if cls.screens]


def harm(space: Space, levels: Any) -> np.ndarray:
    levels = np.asarray(levels)
    return np.sum([r[levels[..., u]] ** 2 for u, r in enumerate(space.removed_fractions)], axis=0)


def test_those_that_are_not_blind_are_the_best() -> None:
    space = synthetic_space(0)
    rng = np.random.default_rng(0)
    genomes = [random_genome(space, rng) for _ in range(40)]
    scores = harm(space, np.array([g.levels for g in genomes]))
    assert Screen(lambda x: harm(space, x), 4, 0.0).choose(space, genomes, (), rng) == sorted(scores.argsort()[:10])
    assert len(Screen(lambda x: harm(space, x), 4, 1.0).choose(space, genomes, (), rng)) == 10
    half = Screen(lambda x: harm(space, x), 4, 0.5).choose(space, genomes, (), rng)
    assert len(set(half)) == 10
    assert len(set(half) & set(scores.argsort()[:15].tolist())) >= 5
    # With a cost beside, the best of every size: what nothing is both better and smaller than.
    sized = Screen(lambda x: harm(space, x), 10, 0.0).choose(space, genomes, ("nonzeros",), rng)
    sizes = [space.costs.named(g.levels)["nonzeros"] for g in genomes]
    for i in sized:
        assert not any(scores[j] < scores[i] and sizes[j] < sizes[i] for j in range(40))


@pytest.mark.parametrize("name", SCREENED)
def test_screened_children_are_better_and_as_many(name: str) -> None:
    """With quality itself as the proxy, the first children are better than without."""

    def children(screen: Screen | None) -> list[Genome]:
        space = synthetic_space(0, limits=("nonzeros<=60%",))
        searcher = create(name, space, ["kl", "nonzeros"], 0, {})
        searcher.screen = screen
        for index in range(10):
            proposals = searcher.ask(1000)
            evaluations = [
                Evaluation(
                    p.genome,
                    4,
                    p.draw,
                    p.origin,
                    "ok",
                    float(harm(space, p.genome.levels)),
                    space.costs.named(p.genome.levels),
                    losses=(0.0,) * 4,
                )
                for p in proposals
            ]
            if index and {p.origin for p in proposals} & {"offspring", "mutation", name}:
                break
            searcher.tell(evaluations)
        return [p.genome for p in proposals]

    space = synthetic_space(0, limits=("nonzeros<=60%",))
    plain, screened = children(None), children(Screen(lambda x: harm(space, x), 8, 0.25))
    assert 0.5 * len(plain) <= len(screened) <= len(plain), "as many, but for what was made twice"
    assert np.median(harm(space, [g.levels for g in screened])) < np.median(harm(space, [g.levels for g in plain]))
