"""The surrogate: what it learns, and when it steps aside."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr
from support import synthetic_space

from sparsesearch.searchers.surrogate import Surrogate
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import random_genome


def quality(space: Space, genome: Genome) -> float:
    """Not additive: blocks that are pruned together hurt more, and the first unit of each block most."""
    removed = np.array([r[level] for r, level in zip(space.removed, genome.levels, strict=True)])
    blocks = np.array([unit.block for unit in space.units])
    weight = np.where(np.arange(len(blocks)) % 5 == 0, 6.0, 1.0)
    sums = np.bincount(blocks, weight * removed**2)
    return float(sums.sum() + 2 * sums[0] * sums[1])


def drawn(space: Space, count: int, seed: int) -> tuple[list[Genome], list[float]]:
    rng = np.random.default_rng(seed)
    genomes = [random_genome(space, rng) for _ in range(count)]
    return genomes, [quality(space, genome) for genome in genomes]


def test_it_learns_what_units_do_together() -> None:
    space = synthetic_space(0, blocks=3)
    surrogate = Surrogate(space)
    unseen, truth = drawn(space, 100, 1)
    before = float(spearmanr(surrogate.predict(unseen), truth).statistic)
    surrogate.fit(*drawn(space, 150, 0))
    after = float(spearmanr(surrogate.predict(unseen), truth).statistic)
    assert after > max(before, 0.95)


def test_it_is_trusted_only_while_it_is_right() -> None:
    space = synthetic_space(0)
    surrogate = Surrogate(space)
    assert not surrogate.trusted
    surrogate.fit(*drawn(space, 7, 0))
    assert not surrogate.trusted
    surrogate.fit(*drawn(space, 60, 0))
    assert surrogate.trusted
    genomes, truth = drawn(space, 20, 1)
    surrogate.judge(surrogate.predict(genomes), truth)
    assert surrogate.correlation is not None
    assert surrogate.trusted
    for _ in range(4):
        surrogate.judge(surrogate.predict(genomes), -np.array(truth))
    assert not surrogate.trusted
    surrogate.judge(surrogate.predict(genomes)[:3], truth[:3])
    assert not surrogate.trusted
