"""Allocations: one conformance suite, the identity that each rule must hold, and genomes that meet limits exactly."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsesearch.allocation import (
    ALLOCATIONS,
    AllocationConfig,
    Evidence,
    allocation,
    allocation_named,
    densities_by_name,
    evidence,
    genome_at_limits,
    project,
)
from sparsesearch.allocation.density_budget import global_top_k, proportional_shares
from sparsesearch.allocation.genomes import genome_at_densities, level_at_density
from sparsesearch.allocation.pq_index import kept_share
from sparsesearch.arrays import Floats
from sparsesearch.errors import InputError
from sparsesearch.searchers.registry import SEARCHERS
from sparsesearch.space import Genome, Limit, Part, Space, Unit
from sparsesearch.testing import check_allocation
from sparsesearch.testing.allocations import SHAPES, weights_of
from sparsesearch.testing.allocations import evidence_of as made

OPTIONS = AllocationConfig()


def equal_blocks(seed: int = 0) -> Evidence:
    """Four blocks of two matrices, all of one size: here the papers' unweighted means are exact too."""
    return made(((12, 10),) * 8, (0, 0, 1, 1, 2, 2, 3, 3), seed)


def kept(measurements: Evidence, density: Floats) -> float:
    return float(measurements.sizes @ density)


@pytest.mark.parametrize("name", ALLOCATIONS)
class TestRule:
    def test_conformance(self, name: str) -> None:
        check_allocation(name)

    def test_needs_are_named(self, name: str) -> None:
        for field in ALLOCATIONS[name].needs:
            with pytest.raises(ValueError, match="without the evidence"):
                ALLOCATIONS[name].densities(replace(made(), **{field: None}), 0.5, OPTIONS)

    def test_equal_matrices_are_treated_alike(self, name: str) -> None:
        one = made(((12, 10),), (0,))
        fields = {}
        for field, value in vars(one).items():
            fields[field] = value * 4 if isinstance(value, tuple) else np.tile(value, 4)
        density = ALLOCATIONS[name].densities(Evidence(**fields), 0.5, OPTIONS)
        # Uniform+ protects by position. Equal scores fall to the earlier matrix, one weight at most.
        expected = [1, 1 / 3, 1 / 3, 1 / 3] if name == "uniform_plus" else 0.5
        assert density == pytest.approx(expected, abs=1 / 120)


def test_unknown_names_get_a_suggestion() -> None:
    assert allocation_named("owl") is ALLOCATIONS["owl"]
    with pytest.raises(InputError, match=r"SS102 unknown allocation 'uniforn'\. Did you mean 'uniform'"):
        allocation_named("uniforn")


def test_needs_of_a_rule_are_fields_of_the_evidence() -> None:
    with pytest.raises(InputError, match=r"SS127 allocation 'mine' needs 'outlier', .* Did you mean 'outliers'"):
        allocation("mine", needs=["outlier"])


@pytest.mark.parametrize("density", [None, [0.5] * 7, np.full(6, 0.5), np.full(7, 1.5), np.full(7, np.nan)])
def test_a_rule_that_gives_no_densities_is_named(density: Any) -> None:
    with ALLOCATIONS.restored(), pytest.raises(InputError, match="SS127 allocation 'mine' returned"):
        allocation("mine")(lambda *_: density)
        densities_by_name("mine", made())(0.5)


def test_an_allocation_of_ones_own_is_a_searcher_too() -> None:
    with ALLOCATIONS.restored():
        allocation("mine", needs=["cosines"])(ALLOCATIONS["adapt_pruner"].densities)
        check_allocation("mine")
        assert SEARCHERS["allocation:mine"] is SEARCHERS["allocation:owl"]
    assert "allocation:mine" not in SEARCHERS


def test_only_evidence_imports_torch() -> None:
    code = "import sys, sparsesearch.allocation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Each rule's identity


def test_uniform_plus_protects_first_and_last() -> None:
    density = ALLOCATIONS["uniform_plus"].densities(made(), 0.75, OPTIONS)
    assert density[0] == 1
    assert density[-1] == 0.2
    assert np.ptp(density[1:-1]) == pytest.approx(0, abs=1e-12)
    assert density[1] < 0.15
    nothing_to_spare = ALLOCATIONS["uniform_plus"].densities(made(), 0.99, OPTIONS)
    assert nothing_to_spare == pytest.approx(0.01)


@pytest.mark.parametrize("sparsity", [0.3, 0.6, 0.9])
def test_erk_is_proportional_below_dense(sparsity: float) -> None:
    measurements = made()
    density = ALLOCATIONS["erk"].densities(measurements, sparsity, OPTIONS)
    raw = np.array([sum(d) / math.prod(d) for d in measurements.dims])
    partial = density < 1
    factor = density[partial] / raw[partial]
    assert factor == pytest.approx(factor[0])
    assert (raw[~partial] * factor[0] >= 1 - 1e-9).all()


def brute_lamp(weights: list[torch.Tensor], count: int) -> list[int]:
    scores = []
    for weight in weights:
        squares = weight.double().square().flatten().tolist()
        scores.append([s / sum(v for v in squares if v >= s) for s in squares])
    ranked = sorted(((s, i) for i, layer in enumerate(scores) for s in layer), reverse=True)
    return [sum(i == layer for _, i in ranked[:count]) for layer in range(len(weights))]


@pytest.mark.parametrize("count", [7, 20, 300, 700])
def test_lamp_equals_a_global_top_k_of_all_scores(count: int) -> None:
    shapes = SHAPES[:3] + SHAPES[4:6]
    measurements, weights = made(shapes, (0, 0, 1, 1, 2)), weights_of(shapes)
    density = ALLOCATIONS["lamp"].densities(measurements, 1 - count / measurements.sizes.sum(), OPTIONS)
    assert density * measurements.sizes == pytest.approx(brute_lamp(weights, count), abs=1e-6)


def test_lamp_scores_fall_from_1_and_every_matrix_keeps_a_weight() -> None:
    measurements = made()
    assert measurements.lamp_thresholds is not None
    for table in measurements.lamp_thresholds:
        assert table[0] == 1
        assert (np.diff(table) <= 0).all()
    density = ALLOCATIONS["lamp"].densities(measurements, 1 - 8 / measurements.sizes.sum(), OPTIONS)
    assert (density * measurements.sizes >= 1 - 1e-9).all()
    ties = evidence.lamp_thresholds(torch.tensor([2.0, 2.0, 0.0, 0.0]))
    assert ties.tolist() == [1, 0.5, 0, 0]
    assert evidence.lamp_thresholds(torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_global_magnitude_without_floor_equals_a_global_top_k(sparsity: float) -> None:
    measurements, weights = made(), weights_of()
    count = round((1 - sparsity) * measurements.sizes.sum())
    sizes = torch.cat([w.abs().flatten() for w in weights])
    owner = torch.cat([torch.full((w.numel(),), i) for i, w in enumerate(weights)])
    expected = torch.bincount(owner[sizes.topk(count).indices], minlength=len(weights)).tolist()
    options = AllocationConfig(floor=0.0)
    density = ALLOCATIONS["global_magnitude"].densities(measurements, 1 - count / measurements.sizes.sum(), options)
    assert density * measurements.sizes == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["global_magnitude", "ecoflap"])
def test_floor_holds(name: str) -> None:
    density = ALLOCATIONS[name].densities(made(), 0.7, AllocationConfig(floor=2 / 3))
    assert 0.2 - 1e-12 <= density.min() < 0.21
    assert density.max() > 0.3
    # The default is the published largest sparsity of 80 % at 50 %, and no rule becomes uniform beyond.
    assert ALLOCATIONS[name].densities(made(), 0.5, OPTIONS).min() >= 0.2 - 1e-12
    assert np.ptp(ALLOCATIONS[name].densities(made(), 0.9, OPTIONS)) > 0.01
    assert ALLOCATIONS[name].densities(made(), 0.9, AllocationConfig(floor=1.0)) == pytest.approx(0.1)


def test_thinned_tables_rank_nearly_like_all_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(300, 200, generator=generator) * scale for scale in (1.0, 2.0, 0.5)]
    sizes = np.array([w.numel() for w in weights])
    floor = np.zeros(3)
    full = global_top_k([evidence.lamp_thresholds(w, 10**6) for w in weights], sizes, 0.6, floor)
    thin = global_top_k([evidence.lamp_thresholds(w, 1024) for w in weights], sizes, 0.6, floor)
    assert sizes @ thin == pytest.approx(0.4 * sizes.sum(), abs=0.01)
    assert thin == pytest.approx(full, abs=2 / 1024)


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.7])
def test_owl_has_mean_sparsity_and_range(sparsity: float) -> None:
    measurements = equal_blocks()
    density = ALLOCATIONS["owl"].densities(measurements, sparsity, OPTIONS)
    assert density.mean() == pytest.approx(1 - sparsity)
    assert np.ptp(density) == pytest.approx(0.16)
    assert measurements.outliers is not None
    blocks = measurements.outliers.reshape(4, 2).mean(axis=1)
    assert density[::2].argsort().tolist() == blocks.argsort().tolist()
    assert np.array_equal(density[::2], density[1::2])


def test_owl_counts_outliers_against_the_mean_of_the_block() -> None:
    calm, wild = torch.ones(4, 5), torch.ones(2, 5)
    wild[0, 0] = 100.0
    assert evidence.outliers([calm, wild], [torch.ones(5), torch.ones(5)]).tolist() == [0, 0.1]
    loud_input = torch.tensor([10.0**6, 1, 1, 1, 1])
    assert evidence.outliers([calm], [loud_input], multiple=4.0).tolist() == [0.2]


def test_alpha_pruning_has_mean_sparsity_and_ratio() -> None:
    for measurements in (equal_blocks(), made()):
        removed = 1 - ALLOCATIONS["alpha_pruning"].densities(measurements, 0.5, OPTIONS)
        assert np.average(removed, weights=measurements.sizes) == pytest.approx(0.5)
        assert removed.max() / removed.min() == pytest.approx(1.3 / 0.7)


def test_tail_exponent_recovers_a_power_law() -> None:
    count, alpha = 500, 3.0
    # Quantiles of a density proportional to λ^-α above 1; the median is a scale, it does not change the exponent.
    eigenvalues = (1 - (torch.arange(count) + 0.5) / count) ** (-1 / (alpha - 1))
    assert evidence.tail_exponent(torch.diag(eigenvalues.sqrt())) == pytest.approx(alpha, rel=0.02)
    # The identity of the map: λ_min is the median, so the mean log ratio of the tail gives the exponent.
    few = torch.tensor([1.0, 2.0, 4.0, 8.0])
    assert evidence.tail_exponent(torch.diag(few.sqrt())) == pytest.approx(1 + 2 / math.log(2))
    assert math.isfinite(evidence.tail_exponent(torch.eye(4)))
    assert math.isfinite(evidence.tail_exponent(torch.zeros(4, 3)))


@pytest.mark.parametrize("intensity", [0.1, 1.0, 100.0])
def test_cfsp_has_mean_density_and_shrinks_what_overflows(intensity: float) -> None:
    options = AllocationConfig(cfsp_intensity=intensity)
    for measurements, sparsity in itertools.product((equal_blocks(), made()), (0.2, 0.5, 0.8)):
        density = ALLOCATIONS["cfsp"].densities(measurements, sparsity, options)
        assert np.average(density, weights=measurements.sizes) == pytest.approx(1 - sparsity)
        assert density.max() < 1
        assert measurements.angles is not None
        assert density.argmax() in np.flatnonzero(measurements.blocks == measurements.angles.argmax())
    overflowing = ALLOCATIONS["cfsp"].densities(made(), 0.2, AllocationConfig(cfsp_intensity=100.0))
    assert overflowing.max() == pytest.approx(0.8 + 0.2 / 1.05)


def test_adapt_pruner_moves_by_at_most_the_amplitude() -> None:
    measurements = equal_blocks()
    assert measurements.cosines is not None
    density = ALLOCATIONS["adapt_pruner"].densities(measurements, 0.5, OPTIONS)
    deviation = (density - 0.5)[::2]
    centred = -measurements.cosines + measurements.cosines.mean()
    assert deviation == pytest.approx(0.02 * centred / np.abs(centred).max())


def test_adapt_pruner_adds_up_its_steps_where_none_is_clipped() -> None:
    measurements = equal_blocks()
    one = ALLOCATIONS["adapt_pruner"].densities(measurements, 0.5, AllocationConfig(adapt_amplitude=0.05))
    ten = ALLOCATIONS["adapt_pruner"].densities(
        measurements, 0.5, AllocationConfig(adapt_amplitude=0.005, adapt_steps=10)
    )
    assert ten == pytest.approx(one)
    clipped = ALLOCATIONS["adapt_pruner"].densities(
        measurements, 0.9, AllocationConfig(adapt_amplitude=0.1, adapt_steps=50)
    )
    assert clipped.min() == pytest.approx(0.01)


def test_ecoflap_fills_in_proportion_to_scores() -> None:
    measurements = replace(made(), gradient_square=np.array([1.0, 2, 3, 1, 1, 5, 2]))
    density = ALLOCATIONS["ecoflap"].densities(measurements, 0.6, AllocationConfig(floor=0.25))
    extra = (density - 0.1) * measurements.sizes
    partial = density < 1
    assert measurements.gradient_square is not None
    factor = extra[partial] / measurements.gradient_square[partial]
    assert factor == pytest.approx(factor[0])
    silent = replace(measurements, gradient_square=np.zeros(7))
    assert ALLOCATIONS["ecoflap"].densities(silent, 0.6, OPTIONS) == pytest.approx(0.4)


@pytest.mark.parametrize(("p", "q"), [(0.5, 1.0), (0.5, 2.0), (1.0, 2.0)])
def test_pq_bound_of_k_equal_nonzeros_is_k(p: float, q: float) -> None:
    for count in (1, 7, 40):
        weight = torch.zeros(40)
        weight[:count] = 3.0
        assert float(kept_share(np.float64(evidence.pq(weight, p, q)), p, q)) * 40 == pytest.approx(count)


def test_pq_index_ignores_scale_and_copies() -> None:
    weight = weights_of()[1]
    assert evidence.pq(weight * 1e-3) == pytest.approx(evidence.pq(weight))
    assert evidence.pq(torch.cat([weight, weight])) == pytest.approx(evidence.pq(weight))
    assert evidence.pq(torch.full((3, 4), -2.0)) == pytest.approx(0)
    assert evidence.pq(torch.zeros(5)) == 1


def test_pq_sparsity_is_proportional_below_its_cap() -> None:
    measurements = replace(made(), pq_index=np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9]))
    removed = 1 - ALLOCATIONS["pq_index"].densities(measurements, 0.6, OPTIONS)
    assert measurements.pq_index is not None
    partial = removed < 0.9 - 1e-9
    factor = removed[partial] / measurements.pq_index[partial]
    assert factor == pytest.approx(factor[0])
    assert removed[~partial] == pytest.approx(0.9)
    assert 0 < (~partial).sum() < 7


def test_block_influence_prunes_the_identity_block_most() -> None:
    measurements = replace(equal_blocks(), cosines=np.array([0.7, 1.0, 0.9, 0.8]))
    removed = 1 - ALLOCATIONS["block_influence"].densities(measurements, 0.3, OPTIONS)[::2]
    assert removed.argsort().tolist() == [0, 3, 2, 1]
    assert removed[1] / removed[2] == pytest.approx(math.e)
    flat = AllocationConfig(influence_temperature=1e6)
    assert ALLOCATIONS["block_influence"].densities(measurements, 0.3, flat) == pytest.approx(0.7)


# Budgets


@st.composite
def budgets(draw: st.DrawFn) -> tuple[Floats, np.ndarray, float, float, float]:
    count = draw(st.integers(1, 8))
    density = np.array(draw(st.lists(st.floats(-3, 3), min_size=count, max_size=count)))
    sizes = np.array(draw(st.lists(st.integers(1, 10**9), min_size=count, max_size=count)))
    low, high = sorted((draw(st.floats(0, 1)), draw(st.floats(0, 1))))
    sparsity = 1 - (low + (high - low) * draw(st.floats(0, 1)))
    return density, sizes, sparsity, low, high


@given(budgets())
def test_project_is_exact_idempotent_and_preserves_order(case: tuple[Floats, np.ndarray, float, float, float]) -> None:
    density, sizes, sparsity, low, high = case
    projected = project(density, sizes, sparsity, low, high)
    assert ((projected >= low) & (projected <= high)).all()
    assert abs(sizes @ projected - (1 - sparsity) * sizes.sum()) < 1
    assert np.array_equal(project(projected, sizes, sparsity, low, high), projected)
    assert (np.diff(projected[density.argsort()]) >= 0).all()


@given(budgets())
def test_project_leaves_feasible_densities_alone(case: tuple[Floats, np.ndarray, float, float, float]) -> None:
    density, sizes, _, low, high = case
    density = np.clip(density, low, high)
    sparsity = float(1 - sizes @ density / sizes.sum())
    projected = project(density, sizes, sparsity, low, high)
    assert np.array_equal(projected, density)
    assert projected is not density


def test_project_refuses_budgets_outside_the_bounds() -> None:
    with pytest.raises(ValueError, match=r"sparsity 0\.95"):
        project(np.ones(2), np.array([100, 200]), 0.95, low=0.1)


@given(budgets())
def test_proportional_is_exact_and_ordered(case: tuple[Floats, np.ndarray, float, float, float]) -> None:
    aim, sizes, sparsity, low, high = case
    raw = np.abs(aim)
    share = proportional_shares(raw, sizes, 1 - sparsity, low, high)
    assert ((share >= low) & (share <= high)).all()
    assert abs(sizes @ share - (1 - sparsity) * sizes.sum()) < 1
    assert (np.diff(share[raw.argsort()]) >= -1e-9).all()


# Genomes


def make_space(seed: int, *limits: str) -> Space:
    """Matrices with random levels in two blocks, and in each a width that cuts the first of them."""
    rng = np.random.default_rng(seed)
    units, parts = [], [Part("embedding", (50,), ((50,),), (50,), (0,))]
    for block in range(2):
        cut = Unit(f"b{block}.mlp", "ffn_width", block, 8, (8, 6, 3))
        units.append(cut)
        for matrix in range(3):
            size = 8 * int(rng.integers(4, 30))
            levels = tuple(sorted({size, *rng.integers(0, size, 4).tolist()}, reverse=True))
            unit = Unit(f"b{block}.l{matrix}", "sparsity", block, size, levels)
            units.append(unit)
            widths = cut.levels if matrix == 0 else (8,)
            params = tuple(size * w // 8 for w in widths)
            nonzeros = tuple(tuple(kept * w // 8 for w in widths) for kept in levels)
            cuts = (cut.name,) if matrix == 0 else ()
            none = tuple(0 for _ in params)
            parts.append(
                Part(f"b{block}.l{matrix}.weight", params, nonzeros, params, none, cuts, unit.name, prunable=True)
            )
    return Space(tuple(units), tuple(parts), 2, tuple(Limit.parse(text) for text in limits))


def cannot_grow(space: Space, genome: Genome) -> bool:
    for unit in np.flatnonzero(genome.levels):
        larger = genome.levels.astype(int)
        larger[unit] -= 1
        if space.feasible(Genome.of(larger)):
            return False
    return True


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(10, 100))
@settings(deadline=None, max_examples=40)
def test_at_limits_is_the_least_sparse_step_grown_into_the_budget(seed: int, percent: int) -> None:
    space, rng = make_space(seed, f"sparsity>={100 - percent}%"), np.random.default_rng(seed)
    pruned = [u for u in space.units if u.kind == "sparsity"]
    sizes, aim = np.array([u.total for u in pruned]), rng.normal(0, 0.2, len(pruned))

    def densities(sparsity: float) -> dict[str, float]:
        share = project(aim, sizes, sparsity)
        return dict(zip((u.name for u in pruned), share.tolist(), strict=True))

    steps = [genome_at_densities(space, densities(s)) for s in np.linspace(0, 1, 201)]
    feasible = [g for g in steps if space.feasible(g)]
    genome = genome_at_limits(space, densities)
    if genome is None:
        assert not feasible
        return
    assert space.feasible(genome)
    assert cannot_grow(space, genome)
    assert (genome.levels <= feasible[0].levels).all()
    assert all(level == 0 for u, level in zip(space.units, genome.levels, strict=True) if u.is_cut)
    assert genome_at_limits(space, densities) == genome


def test_at_limits_is_none_where_sparsity_alone_is_not_enough() -> None:
    space = make_space(0, "params<=90%")
    densities = {u.name: 0.5 for u in space.units if u.kind == "sparsity"}
    assert genome_at_limits(space, lambda sparsity: densities) is None


def test_without_limits_at_limits_is_dense() -> None:
    space = make_space(3)
    half = {u.name: 0.5 for u in space.units if u.kind == "sparsity"}
    assert genome_at_densities(space, {}) == space.dense
    assert genome_at_limits(space, lambda sparsity: dict.fromkeys(half, 1 - sparsity)) == space.dense


@pytest.mark.parametrize(
    ("density", "level"), [(1.0, 0), (0.9, 0), (0.85, 1), (0.7, 1), (0.6999999999, 1), (0.69, 2), (0.3, 2), (0.0, 2)]
)
def test_level_keeps_no_more_than_the_density_unless_dense_is_nearer_than_level_1(density: float, level: int) -> None:
    assert level_at_density(Unit("m", "sparsity", 0, 100, (100, 70, 30)), density) == level


@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_density_never_gets_a_sparser_level(seed: int, one: float, other: float) -> None:
    for unit in make_space(seed).units:
        assert level_at_density(unit, max(one, other)) <= level_at_density(unit, min(one, other))


@given(seeds)
@settings(deadline=None)
def test_every_level_is_its_own_nearest(seed: int) -> None:
    for unit in make_space(seed).units:
        for level, count in enumerate(unit.levels):
            assert level_at_density(unit, count / unit.total) == level
