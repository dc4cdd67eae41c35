"""Costs, repair, moves and sampling on synthetic spaces: brute force and properties."""

from __future__ import annotations

import itertools
import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import synthetic_space

from sparsesearch.errors import InfeasibleError, InputError
from sparsesearch.searchers.evolutionary.operators import cross, moves, switch, transfer, within_block
from sparsesearch.space import COSTS, KINDS, Genome, Limit, Part, Space, Unit
from sparsesearch.space.repair import fill, repair
from sparsesearch.space.sampling import random_genome, starting_genomes, uniform_at_limits, uniform_genome
from sparsesearch.space.unit import Kind


def brute_costs(space: Space, levels: list[int]) -> list[int]:
    at = {u.name: i for u, i in zip(space.units, levels, strict=True)}
    total = dict.fromkeys(COSTS, 0)
    for part in space.parts:
        if part.drop and at[part.drop]:
            continue
        sizes = [len(u.levels) for name in part.cuts for u in space.units if u.name == name]
        cut = int(np.ravel_multi_index([at[name] for name in part.cuts], sizes)) if part.cuts else 0
        sparsity = at.get(part.sparsity or "", 0)
        total["params"] += part.params[cut]
        total["nonzeros"] += part.nonzeros[sparsity][cut]
        total["prunable_nonzeros"] += part.nonzeros[sparsity][cut] if part.prunable else 0
        total["macs"] += part.macs[cut]
        total["bytes"] += 2 * part.params[cut]
        total["kv_bytes"] += part.kv_bytes[cut]
    return list(total.values())


def random_levels(space: Space, rng: np.random.Generator) -> list[int]:
    return [int(rng.integers(0, m + 1)) for m in space.max_levels]


seeds = st.integers(0, 2**32 - 1)
percents = st.integers(25, 100)


@given(seeds)
def test_costs_equal_brute_force(seed: int) -> None:
    space, rng = synthetic_space(seed), np.random.default_rng(seed)
    batch = [random_levels(space, rng) for _ in range(5)]
    assert space.costs.totals(batch).tolist() == [brute_costs(space, levels) for levels in batch]


@given(seeds, st.sampled_from([-1, 1]))
def test_neighbour_costs_equal_moving_each_unit(seed: int, step: int) -> None:
    space = synthetic_space(seed)
    levels = random_levels(space, np.random.default_rng(seed))
    for unit, costs in enumerate(space.costs.neighbours(levels, step).tolist()):
        moved = list(levels)
        moved[unit] = min(max(moved[unit] + step, 0), int(space.max_levels[unit]))
        assert costs == brute_costs(space, moved)


@given(seeds, percents, percents)
@settings(deadline=None)
def test_repair_is_feasible_idempotent_and_only_shrinks(seed: int, params: int, nonzeros: int) -> None:
    space = synthetic_space(seed, limits=(f"params<={params}%", f"nonzeros<={nonzeros}%"))
    rng = np.random.default_rng(seed)
    genome = Genome.of(random_levels(space, rng))
    try:
        repaired = repair(space, genome, rng)
    except InfeasibleError:
        assert not space.feasible(space.smallest)
        return
    assert space.feasible(repaired)
    assert repair(space, repaired, rng) == repaired
    assert (repaired.levels >= genome.levels).all()
    if space.feasible(genome):
        assert repaired == genome
    filled = fill(space, repaired, rng)
    assert space.feasible(filled)
    for unit in range(len(space.units)):
        if filled.levels[unit]:
            larger = filled.levels.astype(int)
            larger[unit] -= 1
            assert not space.feasible(Genome.of(larger)), "fill stopped although a unit could grow"


@given(seeds, st.integers(40, 100))
@settings(deadline=None)
def test_moves_are_feasible_and_never_equal_the_parent(seed: int, percent: int) -> None:
    space = synthetic_space(seed, limits=(f"nonzeros<={percent}%",))
    rng = np.random.default_rng(seed)
    a, b = random_genome(space, rng), random_genome(space, rng)
    for move in moves(space).values():
        child = move(space, a, rng)
        assert space.feasible(child)
        assert child != a
    assert space.feasible(cross(space, a, b, rng))


@given(seeds)
def test_a_switch_within_a_block_changes_one_block_alone(seed: int) -> None:
    space = synthetic_space(seed)
    rng = np.random.default_rng(seed)
    parent = random_genome(space, rng)
    child = within_block(space, parent, rng)
    assert len(set(space.blocks[child.levels != parent.levels])) == 1


@given(seeds)
def test_a_transfer_makes_one_unit_denser_and_pays_with_units_of_one_other_kind(seed: int) -> None:
    space = synthetic_space(seed)
    rng = np.random.default_rng(seed)
    parent = random_genome(space, rng)
    child = transfer(space, parent, rng)
    change = child.levels - parent.levels
    if (change < 0).sum() != 1:  # nothing to make denser, or nobody to pay: a shift
        return
    kinds = set(space.kinds[change > 0])
    assert len(kinds) <= 1
    assert not kinds & set(space.kinds[change < 0])
    after, before = (space.costs.named(genome.levels)["nonzeros"] for genome in (child, parent))
    payers = np.isin(space.kinds, list(kinds))
    assert after <= before or ((change > 0) | (parent.levels == space.max_levels))[payers].all()


def test_a_move_in_a_space_of_one_feasible_genome_returns_the_parent() -> None:
    unit = Unit("m", "sparsity", 0, 4, (4, 2))
    part = Part("m", (4,), ((4,), (2,)), (4,), (0,), sparsity=unit.name)
    space = Space((unit,), (part,), 4, (Limit.parse("nonzeros<=50%"),))
    assert switch(space, space.smallest, np.random.default_rng(0)) == space.smallest


def test_repair_without_a_feasible_genome_says_which_limit() -> None:
    space = synthetic_space(0, limits=("params<=1%",))
    with pytest.raises(InfeasibleError, match="SS405 no genome meets params<=1%"):
        repair(space, space.dense, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"SS106 limit params<=1% cannot be met: it allows .* smallest candidate"):
        space.check()


@given(seeds)
def test_uniform_at_limits_is_the_largest_feasible_uniform_genome(seed: int) -> None:
    space = synthetic_space(seed, limits=("nonzeros<=60%",))
    kinds = ("sparsity",)
    genome = uniform_at_limits(space, kinds)
    feasible = [f for f in np.linspace(0, 1, 101) if space.feasible(uniform_genome(space, f, kinds))]
    if genome is None:
        assert not feasible
        return
    assert space.feasible(genome)
    assert all(level == 0 for u, level in zip(space.units, genome.levels, strict=True) if u.kind != "sparsity")
    largest = uniform_genome(space, feasible[0], kinds)
    assert (genome.levels <= largest.levels).all()


def test_starting_genomes_hold_dense_and_feasible_uniforms() -> None:
    space = synthetic_space(1, limits=("params<=90%",))
    start = starting_genomes(space, sizes=4)
    assert start["dense"] == space.dense
    assert len(set(start.values())) == len(start)
    assert all(space.feasible(g) for name, g in start.items() if name != "dense")
    assert any(name.startswith("uniform") for name in start)


def test_random_genomes_cover_the_range_of_sizes() -> None:
    space = synthetic_space(2, blocks=6)
    rng = np.random.default_rng(0)
    sizes = [space.costs.named(random_genome(space, rng).levels)["nonzeros"] for _ in range(200)]
    low, high = space.costs.named(space.smallest.levels)["nonzeros"], space.dense_costs["nonzeros"]
    thirds = np.histogram(sizes, bins=np.linspace(low, high, 4))[0]
    assert (thirds >= 10).all(), thirds


def test_space_survives_json() -> None:
    space = synthetic_space(3, limits=("params<=90%",))
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.canonical_text() == space.canonical_text()


def test_genome_is_a_value() -> None:
    a, b = Genome.of([1, 2, 300]), Genome.of(np.array([1, 2, 300]))
    assert a == b
    assert hash(a) == hash(b)
    assert a.id == b.id != Genome.of([1, 2, 301]).id
    with pytest.raises(ValueError, match="read-only"):
        a.levels[0] = 5


@pytest.mark.parametrize("levels", [(4, 2, 2), (3, 2), (4, 5), ()])
def test_unit_refuses_levels_that_do_not_decrease_from_dense(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="level"):
        Unit("m", "sparsity", 0, 4, levels)


DENSE = {"params": 1000, "nonzeros": 900, "macs": 500, "bytes": 2000, "kv_bytes": 64}


@pytest.mark.parametrize(
    ("text", "cost", "maximum"),
    [
        ("params<=60%", "params", 600),
        (" params <= 33.3% ", "params", 333),
        ("nonzeros<=0.5K", "nonzeros", 500),
        ("bytes<=1KiB", "bytes", 1024),
        ("macs<=1e2", "macs", 100),
        ("sparsity>=70%", "prunable_nonzeros", 801 - 561),
        ("sparsity>=0.7", "prunable_nonzeros", 801 - 561),
    ],
)
def test_limits_are_exact_integers(text: str, cost: str, maximum: int) -> None:
    bound = Limit.parse(text).bound(DENSE, prunable=801)
    assert (bound.cost, bound.maximum) == (cost, maximum)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("params=60%", "SS105", "not of the form"),
        ("parms<=60%", "SS102", "Did you mean 'params'"),
        ("params>=60%", "SS105", "sparsity>=70%"),
        ("sparsity>=70", "SS105", 'For percent write "50%"'),
        ("params<=160%", "SS105", "outside"),
        ("params<=3furlongs", "SS105", "is no unit of params"),
        ("params<=1.2.3M", "SS105", "not a number"),
    ],
)
def test_bad_limits_get_one_line(text: str, code: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Limit.parse(text)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exhaustive_fill_reaches_a_maximal_genome_of_a_tiny_space() -> None:
    space = synthetic_space(5, blocks=1, limits=("nonzeros<=70%",))
    every = [Genome.of(x) for x in itertools.product(*(range(m + 1) for m in space.max_levels))]
    feasible = [g for g in every if space.feasible(g)]
    filled = fill(space, space.smallest)
    dominated = [g for g in feasible if g != filled and (g.levels <= filled.levels).all()]
    assert filled in feasible
    assert not dominated


def test_every_kind_is_described() -> None:
    assert get_args(Kind) == tuple(KINDS)
