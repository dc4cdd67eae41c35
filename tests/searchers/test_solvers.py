"""The additive model and its exact minima, against brute force on tiny spaces with shared tensors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import synthetic_space

from sparsesearch.errors import InfeasibleError, InputError
from sparsesearch.searchers import Evaluation
from sparsesearch.searchers.decomposition import DecompositionSearcher
from sparsesearch.searchers.exact import dynamic_program, joint_choices
from sparsesearch.searchers.exact.additive import Table, predicted_harm, probes, table_of
from sparsesearch.searchers.exact.dynamic_program import DynamicProgram, solve_fronts
from sparsesearch.searchers.exact.integer_program import RELATIVE_GAP_NEAR, IntegerProgram
from sparsesearch.searchers.exact.joint_choices import Box, independent_groups
from sparsesearch.searchers.exact.solvers import Solver, solver_of
from sparsesearch.searchers.registry import create
from sparsesearch.space import Genome, Limit, Part, Space, Unit
from sparsesearch.space.repair import repair
from sparsesearch.space.sampling import random_genome

seeds = st.integers(0, 2**32 - 1)
percents = st.integers(35, 95)


def random_table(space: Space, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    return [np.append(0.0, np.cumsum(rng.random(top))) for top in space.max_levels]


def brute(space: Space, table: Table, near: Box | None = None) -> float:
    """The least predicted loss of all feasible genomes, near one."""
    every = np.array(list(itertools.product(*(range(top + 1) for top in space.max_levels))))
    if near is not None:
        every = every[((every >= near[0]) & (every <= near[1])).all(axis=1)]
    feasible = space.feasible_rows(every)
    return float(predicted_harm(table, every)[feasible].min()) if feasible.any() else math.inf


@pytest.mark.parametrize("kind", [DynamicProgram, IntegerProgram])
@settings(max_examples=15, deadline=None)
@given(seed=seeds, percent=percents)
def test_solvers_equal_brute_force(kind: type[Solver], seed: int, percent: int) -> None:
    space, limit = synthetic_space(seed, blocks=1), Limit.parse(f"nonzeros<={percent}%")
    table, limited = random_table(space, seed), space.with_limits([limit])
    least = brute(limited, table)
    if math.isinf(least):
        with pytest.raises(InfeasibleError, match="SS405"):
            kind(space).solve(table, [limit])
        return
    (solution,) = kind(space).solve(table, [limit])
    assert limited.feasible(solution)
    assert predicted_harm(table, solution.levels) == pytest.approx(least)


@pytest.mark.parametrize("kind", [DynamicProgram, IntegerProgram])
@settings(max_examples=10, deadline=None)
@given(seed=seeds, percent=percents)
def test_solutions_near_a_genome_equal_brute_force(kind: type[Solver], seed: int, percent: int) -> None:
    """Of a table that may say that pruning helps, as a learned one does."""
    space, limit, rng = (
        synthetic_space(seed, blocks=1),
        Limit.parse(f"nonzeros<={percent}%"),
        np.random.default_rng(seed),
    )
    table, limited = [rng.normal(size=top + 1) for top in space.max_levels], space.with_limits([limit])
    if not limited.feasible(space.smallest):
        return
    center = repair(limited, random_genome(space, rng), rng).levels.astype(np.int64)
    near = center - 1, center + 1
    (solution,) = kind(space).solve(table, [limit], near)
    assert limited.feasible(solution)
    assert (np.abs(solution.levels - center) <= 1).all()
    assert predicted_harm(table, solution.levels) == pytest.approx(
        brute(limited, table, near), rel=2 * RELATIVE_GAP_NEAR
    )


@settings(max_examples=10, deadline=None)
@given(seed=seeds, params=percents, nonzeros=percents)
def test_milp_meets_several_limits_at_once(seed: int, params: int, nonzeros: int) -> None:
    limits = [Limit.parse(f"params<={params}%"), Limit.parse(f"nonzeros<={nonzeros}%")]
    space = synthetic_space(seed, blocks=1).with_limits(limits[:1])
    table, limited = random_table(space, seed), space.with_limits(limits)
    least = brute(limited, table)
    if math.isfinite(least):
        (solution,) = IntegerProgram(space).solve(table, limits[1:])
        assert limited.feasible(solution)
        assert predicted_harm(table, solution.levels) == pytest.approx(least)
    with pytest.raises(InputError, match="SS112 dynamic programming takes limits on one cost"):
        DynamicProgram(space).solve(table, limits[1:])


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_one_sweep_serves_all_budgets_and_more_budget_never_hurts(seed: int) -> None:
    space = synthetic_space(seed)
    table, limits = random_table(space, seed), [Limit.parse(f"nonzeros<={p}%") for p in (50, 60, 75, 90, 100)]
    together = DynamicProgram(space).solve(table, limits)
    alone = [DynamicProgram(space).solve(table, [limit])[0] for limit in limits]
    harm = [float(predicted_harm(table, genome.levels)) for genome in together]
    assert harm == pytest.approx([float(predicted_harm(table, genome.levels)) for genome in alone])
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(harm))
    assert harm[-1] == 0


def test_rounding_to_buckets_stays_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_program, "MAX_BUDGET_STEPS", 7)
    for seed in range(20):
        space, limit = synthetic_space(seed), Limit.parse("nonzeros<=60%")
        (solution,) = DynamicProgram(space).solve(random_table(space, seed), [limit])
        assert space.with_limits([limit]).feasible(solution)


def test_costs_of_clusters_add_up() -> None:
    space = synthetic_space(3)
    rng = np.random.default_rng(0)
    joints = independent_groups(space)
    fixed = space.costs.totals(space.dense.levels) - sum(joint.costs[0] for joint in joints)
    for _ in range(20):
        levels = rng.integers(0, space.max_levels + 1)
        total = fixed.copy()
        for joint in joints:
            total += joint.costs[(joint.levels == levels[list(joint.units)]).all(axis=1)][0]
        assert (total == space.costs.totals(levels)).all()


def test_too_many_joint_choices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint_choices, "MAX_JOINT_CHOICES", 50)
    with pytest.raises(InputError, match=r"SS112 b0.mlp.ffn_width and 4 units that share tensors with it have"):
        independent_groups(synthetic_space(0))


def evaluation(space: Space, genome: Genome, loss: float, status: str = "ok") -> Evaluation:
    costs = space.costs.named(genome.levels)
    return Evaluation(genome, 2, 0, "probe", status, loss, costs, (loss - 0.5, loss + 0.5))  # type: ignore[arg-type]


def test_probes_prune_one_unit_each_and_reach_its_last_level() -> None:
    space = synthetic_space(1)
    genomes = probes(space, 2)
    assert all(np.count_nonzero(genome.levels) == 1 for genome in genomes)
    assert {int(g.levels.argmax()) for g in genomes} == set(range(len(space.units)))
    for unit, top in enumerate(space.max_levels):
        levels = [int(g.levels[unit]) for g in genomes if g.levels[unit]]
        assert max(levels) == top
        assert len(levels) == min(2, top)


def test_a_table_goes_through_what_was_measured_and_never_falls() -> None:
    space = synthetic_space(2)
    rng = np.random.default_rng(0)
    measured = {genome: 3.0 + rng.normal() for genome in probes(space, 2)}
    evaluations = [evaluation(space, genome, loss) for genome, loss in measured.items()]
    table = table_of(space, [evaluation(space, space.dense, 2.0), *evaluations])
    for harm in table:
        assert harm[0] == 0
        assert (np.diff(harm) >= -1e-12).all()
    for unit in range(len(space.units)):
        points = sorted((int(g.levels[unit]), loss - 2.0) for g, loss in measured.items() if g.levels[unit])
        expected = np.maximum.accumulate([0.0, *(loss for _, loss in points)])[1:]
        assert table[unit][[level for level, _ in points]] == pytest.approx(expected)


def test_between_probes_squares_of_what_is_removed_are_met() -> None:
    units = tuple(Unit(f"u{i}", "sparsity", 0, 100, tuple(range(100, 4, -5))) for i in range(2))
    parts = tuple(Part(u.name, (100,), tuple((k,) for k in u.levels), (100,), (0,), sparsity=u.name) for u in units)
    space = Space(units, parts, 4)
    laws = [3.0 * space.removed_fractions[0] ** 2, 0.2 * space.removed_fractions[1] ** 2]
    losses = {g: 1.0 + sum(h[int(x)] for h, x in zip(laws, g.levels, strict=True)) for g in probes(space, 3)}
    evaluations = [evaluation(space, genome, loss) for genome, loss in losses.items()]
    table = table_of(space, [evaluation(space, space.dense, 1.0), *evaluations])
    for harm, law in zip(table, laws, strict=True):
        assert harm == pytest.approx(law)


def test_failed_probes_leave_a_unit_harmless() -> None:
    space = synthetic_space(2)
    table = table_of(space, [evaluation(space, genome, 1.0, "failed") for genome in probes(space, 1)])
    assert all((harm == 0).all() for harm in table)


def test_limits_on_several_costs_are_refused_before_anything_is_measured() -> None:
    limits = [Limit.parse("params<=80%"), Limit.parse("nonzeros<=50%")]
    assert isinstance(solver_of(synthetic_space(0)), DynamicProgram)
    space = synthetic_space(0).with_limits(limits)
    assert isinstance(solver_of(space), IntegerProgram)
    with pytest.raises(InputError, match="SS112 dynamic programming takes limits on one cost"):
        create("dp", space, ["kl", "params"], 0, {})


@settings(max_examples=6, deadline=None)
@given(seed=seeds, percent=percents)
def test_joined_fronts_are_as_good_as_the_best_combination(seed: int, percent: int) -> None:
    """Fronts of all genomes of each block, joined, against all genomes."""
    space, limit = synthetic_space(seed, blocks=2), Limit.parse(f"nonzeros<={percent}%")
    options = {"groups": 2, "solutions": 1}
    searcher = create("decomposition", space.with_limits([limit]), ["kl", "nonzeros"], 0, options)
    assert isinstance(searcher, DecompositionSearcher)
    assert sorted(unit for group in searcher._groups for unit in group.units) == list(range(len(space.units)))
    table, limited = random_table(space, seed), space.with_limits([limit])
    least = fixed = space.dense_costs["nonzeros"]
    for group in searcher._groups:
        choices = itertools.product(*(range(int(space.max_levels[u]) + 1) for u in group.units))
        for levels in choices:
            genome = np.zeros(len(space.units), dtype=np.int64)
            genome[group.units] = levels
            costs, harm = space.costs.named(genome), float(predicted_harm(table, genome))
            measurement = Evaluation(Genome.of(levels), 1, 0, "x", "ok", harm, costs, (harm,))
            group.search.best[measurement.genome] = measurement
        least += int(group.front("nonzeros").cost[0])
    if least > limited.bounds[0].maximum:
        return
    fronts = [group.front("nonzeros") for group in searcher._groups]
    (joined,) = solve_fronts(space, fronts, fixed, [limit])
    assert limited.feasible(joined)
    every = [Genome.of(levels) for levels in itertools.product(*(range(top + 1) for top in space.max_levels))][:20_000]
    best = min(float(predicted_harm(table, g.levels)) for g in every if limited.feasible(g))
    assert predicted_harm(table, joined.levels) <= best + 1e-9
