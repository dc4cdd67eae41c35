"""Which sub-networks a step trains: a function of seed and step, with the chances that the options promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import synthetic_space

from sparsesearch.config import SupernetConfig
from sparsesearch.space import Genome
from sparsesearch.supernet.draws import DROP_CHANCE, Draws

SPACE = synthetic_space(3, blocks=3)


def draws(steps: int = 100, block: int | None = None, **options: Any) -> Draws:
    return Draws(SPACE, SupernetConfig(**{"kind": "random", **options}), steps, 5, block)


def sampled(plan: Draws, steps: int = 400) -> np.ndarray[Any, Any]:
    return np.array([genome.levels for step in range(steps) for genome in plan.at(step)])


NARROWEST = Genome.of(np.where(SPACE.drops, 0, SPACE.max_levels))


@given(st.integers(0, 200), st.sampled_from(["uniform", "balanced", "inverse"]))
def test_sandwich_runs_the_largest_the_narrowest_and_random_ones(step: int, sampling: str) -> None:
    genomes = draws(kind="sandwich", subnets=3, sampling=sampling).at(step)
    assert genomes[:2] == [SPACE.dense, NARROWEST]
    assert 2 <= len(genomes) <= 5
    assert all((genome.levels <= SPACE.max_levels).all() for genome in genomes)
    assert genomes == draws(kind="sandwich", subnets=3, sampling=sampling).at(step)


def test_steps_and_seeds_draw_differently() -> None:
    assert draws().at(0) != draws().at(1)
    assert draws().at(0) != Draws(SPACE, SupernetConfig(kind="random"), 100, 6).at(0)


def test_a_block_alone_varies() -> None:
    levels = sampled(draws(block=1))
    assert not levels[:, SPACE.blocks != 1].any()
    assert levels[:, SPACE.blocks == 1].any(axis=0).all()


def test_random_ones_come_with_a_chance_that_rises_linearly() -> None:
    plan = draws(steps=2000, kind="random_linear", subnets=1)
    full = np.array([plan.at(step) == [SPACE.dense] for step in range(2000)])
    shares = full.reshape(4, 500).mean(axis=1)
    assert shares == pytest.approx([0.875, 0.625, 0.375, 0.125], abs=0.06)


def test_levels_are_drawn_evenly_or_the_likelier_the_less_they_keep() -> None:
    position = next(i for i, u in enumerate(SPACE.units) if u.kind == "experts")
    unit = SPACE.units[position]
    counts = np.bincount(sampled(draws(subnets=2), 1500)[:, position], minlength=3) / 3000
    assert counts == pytest.approx([1 / 3] * 3, abs=0.04)
    counts = np.bincount(sampled(draws(subnets=2, sampling="inverse"), 1500)[:, position], minlength=3) / 3000
    chances = 1 / np.array(unit.levels, dtype=float)
    assert counts == pytest.approx(chances / chances.sum(), abs=0.04)
    dropped = sampled(draws(subnets=2), 1500)[:, SPACE.drops].mean()
    assert dropped == pytest.approx(DROP_CHANCE, abs=0.03)


def test_balanced_spreads_sizes_evenly() -> None:
    """Parameters are nearer to evenly spread over their range than where levels are drawn one by one."""
    low, high = (SPACE.costs.named(g.levels)["params"] for g in (SPACE.smallest, SPACE.dense))

    def distance(sampling: str) -> float:
        """Kolmogorov's, of sizes from an even spread."""
        levels = sampled(draws(sampling=sampling))
        sizes = np.sort([(SPACE.costs.named(one)["params"] - low) / (high - low) for one in levels])
        return float(np.abs(sizes - np.linspace(0, 1, len(sizes))).max())

    assert distance("balanced") < 0.5 * distance("uniform")
    assert distance("balanced") < 0.15


@given(st.integers(1, 300))
def test_stages_open_kinds_one_after_another(steps: int) -> None:
    stages = [["sparsity", "ffn_width"], ["experts"], ["drop_ffn"]]
    plan = draws(steps=steps, kind="sandwich", stages=stages)
    deepest = np.array([plan.deepest_levels(step) for step in range(steps)])
    assert (np.diff(deepest, axis=0) >= 0).all()
    assert (deepest <= SPACE.max_levels).all()
    for number, kinds in enumerate(stages):
        columns, begins = np.isin(SPACE.kinds, kinds), number * steps / 3
        before = [step for step in range(steps) if step < begins]
        assert not deepest[before][:, columns].any()
        opened = [step for step in range(steps) if step > begins]
        assert deepest[opened][:, columns].any(axis=1).all()
        whole = [step for step in range(steps) if step >= begins + steps / 6 + 1]
        assert (deepest[whole][:, columns] == SPACE.max_levels[columns]).all()
    if steps >= 12:
        assert plan.at(steps - 1)[1] == NARROWEST
