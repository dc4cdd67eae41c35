"""Learners: the identities of each method, and what all have in common; a new one is one line in `METHODS`."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import Built, relaxed_of

from sparsesearch.bilevel import LEARNERS
from sparsesearch.bilevel.alternation import split
from sparsesearch.bilevel.base import CostTarget, Decision, StepState
from sparsesearch.bilevel.chain import Learning
from sparsesearch.bilevel.methods import gates
from sparsesearch.bilevel.methods.besa import soft_mask
from sparsesearch.bilevel.methods.bip import BiPLearner
from sparsesearch.bilevel.methods.maskllm import patterns_of
from sparsesearch.bilevel.methods.oto import KEPT, NONZERO
from sparsesearch.bilevel.methods.pdp import soft_mask as pdp_mask
from sparsesearch.bilevel.methods.tas import draw_two
from sparsesearch.bilevel.outcome import genome_of, learned_network
from sparsesearch.bilevel.registry import create_learner
from sparsesearch.bilevel.selection import Ranking, top_mask
from sparsesearch.data import Samples
from sparsesearch.searchers.learned.registry import LEARNED
from sparsesearch.space import Genome, Limit, Space, Unit
from sparsesearch.testing import check_learner
from sparsesearch.testing.learners import TRAINING, check_learning
from sparsesearch.testing.learners import LearnerCase as Case
from sparsesearch.training.loop import STATE

Make = Callable[[str], Path]
WIDTHS: list[dict[str, Any]] = [{"kind": "ffn_width", "levels": 6}, {"kind": "kv_groups"}]
SPARSITY: list[dict[str, Any]] = [{"kind": "sparsity", "levels": 8}]
BOTH = [*WIDTHS, *SPARSITY, {"kind": "drop_ffn"}]
# name of the searcher, units, pruners, limit
METHODS: list[tuple[str, list[dict[str, Any]], dict[str, Any], str]] = [
    ("bip", SPARSITY, {"sparsity": "wanda"}, "nonzeros<=85%"),
    ("bip", WIDTHS, {}, "params<=85%"),
    ("hydra", SPARSITY, {"sparsity": "wanda"}, "nonzeros<=85%"),
    ("gates", [*WIDTHS, {"kind": "drop_attention"}], {}, "params<=85%"),
    ("cofi", WIDTHS, {}, "macs<=85%"),
    ("sheared", WIDTHS, {}, "params<=85%"),
    ("compresso", WIDTHS, {}, "params<=85%"),
    ("tas", BOTH, {}, "nonzeros<=85%"),
    ("besa", SPARSITY, {"sparsity": "wanda"}, "nonzeros<=85%"),
    ("maskllm", [{"kind": "sparsity", "levels": ["50%"]}], {"sparsity": "wanda", "pattern": "2:4"}, ""),
    ("pdp", SPARSITY, {"sparsity": "wanda"}, "nonzeros<=85%"),
    ("pdp", WIDTHS, {}, "params<=85%"),
    ("lapp", SPARSITY, {"sparsity": "wanda"}, "nonzeros<=85%"),
    ("oto", WIDTHS, {}, "params<=85%"),
    ("slimming", WIDTHS, {}, "params<=85%"),
]


@pytest.fixture(scope="module")
def make_case(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Case]:
    stores: dict[str, Built] = {}

    def make(name: str, units: Any, pruners: Any, limit: str, **options: Any) -> Case:
        key = json.dumps([units, pruners])
        if key not in stores:
            work = tmp_path_factory.mktemp("store")
            stores[key] = Built(family_dir("llama"), work, units=units, pruners=pruners)
        return Case(stores[key], name, limit, **options)

    return make


def moment_of(size: CostTarget, done: float = 0.5, seed: int = 0) -> StepState:
    return StepState(size, done, done, 0.1, torch.Generator().manual_seed(seed))


def state_of(learning: Learning) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in learning.alternation._changing_tensors().items()}


@pytest.mark.parametrize(
    ("name", "units", "pruners", "limit"), METHODS, ids=[f"{m[0]}-{m[1][0]['kind']}" for m in METHODS]
)
class TestLearner:
    def test_conformance(self, make_case: Any, tmp_path: Path, name: str, units: Any, pruners: Any, limit: str) -> None:
        check_learning(make_case(name, units, pruners, limit), tmp_path, used=0.9)


def test_the_check_chooses_units_that_a_method_takes(tmp_path: Path) -> None:
    for name in ("gates", "maskllm"):
        check_learner(name, tmp_path / name)


def test_every_method_is_tried() -> None:
    assert {name for name, *_ in METHODS} == set(LEARNED)
    assert {cls.method for cls in LEARNED.values()} == set(LEARNERS)


class OneMatrix:
    """What BiP needs of a network that is one matrix of weights."""

    def __init__(self, theta: torch.Tensor) -> None:
        unit = Unit("w", "sparsity", 0, theta.numel(), (theta.numel(), 0))
        self.units, self.units_by_tensor = {"w.sparsity": unit}, {"w": [(unit, None)]}
        self.theta = theta.clone().requires_grad_(True)
        self.weights: Any = self
        self.model_parameters = {"w": self.theta}

    def mean_squares(self, unit: Unit) -> torch.Tensor:
        return self.theta.square()

    def tensors(self, openings: Any) -> dict[str, torch.Tensor]:
        return {"w": self.theta * openings["w.sparsity"]}


def hypergradient(theta: torch.Tensor, mask: torch.Tensor, inverse: float, loss: Any) -> torch.Tensor:
    relaxed: Any = OneMatrix(theta)
    options: Any = LEARNED["bip"].Options(gamma_inverse=inverse)
    bip = BiPLearner(relaxed, None, options, 0)  # type: ignore[arg-type]
    bip.buffers["w.sparsity"] = mask
    tensors = relaxed.tensors(bip.factors(None))  # type: ignore[arg-type]
    return bip.gradients(loss(tensors["w"]), tensors)["w.sparsity"]


def test_bip_is_exact_on_a_linear_loss() -> None:
    """l(z) = c z: θ(m) = -m c / γ, so that d/dm l(m θ(m)) = -2 m c² / γ, also by finite differences."""
    torch.manual_seed(0)
    c, mask, gamma = torch.randn(20).double(), torch.rand(20).double(), 7.0
    theta = -mask * c / gamma
    gradient = hypergradient(theta, mask, 1 / gamma, lambda z: (c * z).sum())
    torch.testing.assert_close(gradient, -2 * mask * c**2 / gamma)

    def value(m: torch.Tensor) -> torch.Tensor:
        return (c * m * (-m * c / gamma)).sum()

    step = 1e-6
    for i in range(20):
        ahead, behind = mask.clone(), mask.clone()
        ahead[i], behind[i] = ahead[i] + step, behind[i] - step
        assert float(gradient[i]) == pytest.approx(
            float((value(ahead) - value(behind)) / (2 * step)), rel=1e-5, abs=1e-9
        )


def test_bip_errs_by_one_over_gamma_on_quadratics() -> None:
    torch.manual_seed(0)
    a = torch.randn(8, 8).double()
    hessian, c, mask = a @ a.T / 8, torch.randn(8).double(), torch.rand(8).double() + 0.5
    errors = []
    for gamma in (1e2, 1e3, 1e4):

        def lower(m: torch.Tensor, gamma: float = gamma) -> torch.Tensor:
            system = m[:, None] * hessian * m[None, :] + gamma * torch.eye(8).double()
            return torch.linalg.solve(system, -m * c)

        def loss(z: torch.Tensor) -> torch.Tensor:
            return 0.5 * z @ hessian @ z + c @ z

        m = mask.clone().requires_grad_(True)
        (exact,) = torch.autograd.grad(loss(m * lower(m)), m)
        gradient = hypergradient(lower(mask), mask, 1 / gamma, loss)
        errors.append(float((gradient - exact).norm() / exact.norm()))
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.3)


def test_where_units_meet_in_a_weight_either_closes_it() -> None:
    """z = a∘b∘θ: with θ = -a∘b∘g/γ the implicit term of a is -a∘b∘g²/γ where b is a mask, as by the chain rule."""
    torch.manual_seed(0)
    theta, c, gamma = torch.randn(12), torch.randn(12), 5.0
    relaxed: Any = OneMatrix(theta)
    other = Unit("v", "sparsity", 0, 12, (12, 0))
    relaxed.units["v.sparsity"] = other
    relaxed.units_by_tensor["w"].append((other, None))
    relaxed.tensors = lambda openings: {"w": relaxed.theta * openings["w.sparsity"] * openings["v.sparsity"]}
    bip = BiPLearner(relaxed, None, LEARNED["bip"].Options(gamma_inverse=1 / gamma), 0)  # type: ignore[arg-type]
    a, b = (torch.rand(12) > 0.4).float(), (torch.rand(12) > 0.4).float()
    bip.buffers |= {"w.sparsity": a, "v.sparsity": b}
    tensors = relaxed.tensors(bip.factors(None))  # type: ignore[arg-type]
    gradients = bip.gradients((c * tensors["w"]).sum(), tensors)
    torch.testing.assert_close(gradients["w.sparsity"], b * theta * c - a * b * c**2 / gamma)
    torch.testing.assert_close(gradients["v.sparsity"], a * theta * c - a * b * c**2 / gamma)


def test_bip_without_the_implicit_term_is_hydra() -> None:
    torch.manual_seed(0)
    theta, c = torch.randn(9), torch.randn(9)
    torch.testing.assert_close(hypergradient(theta, torch.ones(9), 0.0, lambda z: (c * z).sum()), theta * c)


def test_a_ranking_keeps_exactly_what_the_size_allows(make_case: Any) -> None:
    case = make_case("hydra", SPARSITY, {"sparsity": "wanda"}, "sparsity>=70%")
    relaxed = relaxed_of(case.built)
    generator = torch.Generator().manual_seed(0)
    scores = {n: torch.rand(relaxed.shape(u), generator=generator) for n, u in relaxed.units.items()}
    ranking, size = Ranking(relaxed.units, scores), CostTarget("s", case.space)
    counts = ranking.counts(ranking.threshold(size, size.shares_at(1.0)))
    assert sum(counts.values()) == case.space.bounds[0].maximum
    for name, mask in ranking.masks(counts).items():
        assert int(mask.sum()) == counts[name]
        assert float(scores[name][mask > 0].min()) >= float(scores[name][mask == 0].max())


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=8), st.integers(0, 8), st.booleans())
def test_the_best_are_so_many_and_ties_fall_to_the_earlier(values: list[int], count: int, cut: bool) -> None:
    unit = Unit("u", "ffn_width" if cut else "sparsity", 0, len(values), (len(values), 0))
    scores = torch.tensor([values, values[::-1]] if cut else [values]).float()
    for row, mask in zip(scores.tolist(), top_mask(unit, scores, min(count, len(values))).tolist(), strict=True):
        chosen = sorted(range(len(row)), key=lambda i: (-row[i], i))[:count]
        assert [i for i, kept in enumerate(mask) if kept] == sorted(chosen)


@pytest.mark.parametrize("log_alpha", [-2.0, 0.7, 3.0])
def test_gates_close_as_often_as_they_say(log_alpha: float) -> None:
    drawn = gates.sample_gates(torch.full((200_000,), log_alpha), torch.Generator().manual_seed(0))
    open_ = float(gates.open_probability(torch.tensor(log_alpha)))
    assert float((drawn > 0).float().mean()) == pytest.approx(open_, abs=0.005)
    if log_alpha == 0.7:
        assert 1 - open_ == pytest.approx(0.0912, abs=1e-4)


def test_gates_at_their_ends_cost_what_is_counted(make_case: Any) -> None:
    case = make_case("gates", [*WIDTHS, {"kind": "drop_attention"}], {}, "params<=85%")
    learner = create_learner("gates", relaxed_of(case.built), case.built.store.files, case.options, 0)
    size, rng = CostTarget("s", case.space), np.random.default_rng(0)
    levels = rng.integers(0, case.space.max_levels + 1)
    for unit, level in zip(case.space.units, levels.tolist(), strict=True):
        gate = torch.full(learner.relaxed.shape(unit), -1e3)
        gate.view(-1)[: unit.levels[level]] = 1e3
        learner.parameters[unit.name] = gate
    share = float(size.expected_shares(learner.probabilities())[0])
    assert share * case.space.dense_costs["params"] == pytest.approx(case.space.costs.named(levels)["params"])
    assert all(bool((gate == 0).logical_or(gate == 1).all()) for gate in learner.factors(moment_of(size)).values())


def test_gates_start_in_the_order_of_the_store(make_case: Any) -> None:
    case = make_case("gates", [*WIDTHS, {"kind": "drop_attention"}], {}, "params<=85%", prior=1.5)
    files = case.built.store.files
    learner = create_learner("gates", relaxed_of(case.built), files, case.options, 0)
    for name, unit in learner.units.items():
        gate = learner.parameters[name].detach()
        if unit.is_drop:
            assert float(gate) == case.options.start
            continue
        assert float(gate.max() - gate.min()) == pytest.approx(3.0)
        for level in range(1, len(unit.levels)):
            kept_by_order = files.kept(unit, level, gate.shape[1])
            for row, kept in zip(gate, kept_by_order, strict=True):
                removed = torch.ones(len(row), dtype=torch.bool).index_fill(0, kept, False)
                assert not removed.any() or float(row[kept].min()) > float(row[removed].max())


def test_multipliers_push_towards_the_size(make_case: Any) -> None:
    case = make_case("gates", [*WIDTHS, {"kind": "drop_attention"}], {}, "params<=85%")
    learner = create_learner("gates", relaxed_of(case.built), case.built.store.files, case.options, 0)
    size = CostTarget("s", case.space)
    learner.begin(size)
    for done, sign in ((1.0, 1), (0.0, 0)):
        gradient = torch.autograd.grad(learner.penalty(moment_of(size, done)), learner.multipliers["linear"])[0]
        excess = float(size.expected_shares(learner.probabilities())[0]) - float(size.shares_at(done)[0])
        assert float(gradient) == pytest.approx(excess)
        assert (excess > 0) == bool(sign)
    assert float(size.shares_at(0)[0]) == 1
    assert float(size.shares_at(1)[0]) == pytest.approx(case.space.bounds[0].maximum / case.space.dense_costs["params"])


def test_two_levels_are_drawn_and_become_one_as_the_temperature_falls() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    for seed in range(20):
        levels, shares = draw_two(logits, 5.0, torch.Generator().manual_seed(seed))
        assert len(set(levels)) == 2
        assert float(shares.sum()) == pytest.approx(1)
        cold, one = draw_two(logits, 1e-4, torch.Generator().manual_seed(seed))
        assert float(one.max()) == pytest.approx(1)
        assert 1 <= len(cold) <= 2


@pytest.mark.parametrize("mix", ["masks", "interpolate"])
def test_one_level_of_each_unit_is_that_network(make_case: Any, mix: str) -> None:
    case = make_case("tas", BOTH, {"width": "magnitude", "sparsity": "magnitude"}, "nonzeros<=85%", mix=mix)
    relaxed = relaxed_of(case.built)
    learner: Any = create_learner("tas", relaxed, case.built.store.files, case.options, 0)
    levels = np.random.default_rng(1).integers(0, case.space.max_levels + 1)
    levels[[unit.is_drop for unit in case.space.units]] = 0
    openings = {
        u.name: learner._factor(u, [level], torch.ones(1))
        for u, level in zip(case.space.units, levels.tolist(), strict=True)
    }
    network, rows = case.built.launch.network, case.samples.rows(slice(0, 2))
    cut = case.built.supernet("sliced").materialise(Genome.of(levels))
    with torch.no_grad():
        outputs = network.task.call(relaxed.with_tensors(relaxed.tensors(openings)), rows.inputs(relaxed.weights.model))
        torch.testing.assert_close(outputs, network.task.call(cut, rows.inputs(cut)), atol=2e-4, rtol=2e-3)


def test_the_cost_of_widths_is_a_loss_outside_its_zone_only(make_case: Any) -> None:
    case = make_case("tas", BOTH, {}, "nonzeros<=85%")
    learner: Any = create_learner("tas", relaxed_of(case.built), case.built.store.files, case.options, 0)
    size = CostTarget("s", case.space)
    smallest = {
        n: torch.nn.functional.one_hot(torch.tensor(len(p) - 1), len(p)) * 9.0 for n, p in learner.parameters.items()
    }
    moment = moment_of(size, 1.0)
    assert float(learner.penalty(moment)) < 0 or float(size.expected_shares(learner.probabilities())[0]) < 1
    dense = {n: torch.nn.functional.one_hot(torch.tensor(0), len(p)) * 9.0 for n, p in learner.parameters.items()}

    def slope(start: dict[str, torch.Tensor]) -> float:
        """How the loss changes where everything grows a little."""
        learner.parameters = {n: s.clone().requires_grad_(True) for n, s in start.items()}
        value = learner.penalty(moment)
        grown = {n: p + 1e-3 * (torch.arange(len(p)) == 0) for n, p in learner.parameters.items()}
        learner.parameters = grown
        return float(learner.penalty(moment) - value)

    assert slope(dense) > 0, "too large: growing costs"
    assert slope(smallest) < 0, "too small: growing pays"
    inside = genome_of(case.space, Decision({u.name: float(u.total) for u in case.space.units}))
    within = {
        u.name: torch.nn.functional.one_hot(torch.tensor(level), len(u.levels)) * 50.0
        for u, level in zip(case.space.units, inside.levels.tolist(), strict=True)
    }
    learner.parameters = within
    assert float(learner.penalty(moment)) == 0


def test_soft_rates_keep_what_they_say_and_follow_the_rank(make_case: Any) -> None:
    case = make_case("besa", SPARSITY, {"sparsity": "wanda"}, "nonzeros<=85%")
    learner: Any = create_learner("besa", relaxed_of(case.built), case.built.store.files, case.options, 0)
    name, unit = next(iter(learner.units.items()))
    chance = torch.softmax(torch.randn(len(unit.levels), generator=torch.Generator().manual_seed(0)), 0)
    masks = learner._masks[name]
    soft = soft_mask(masks, chance)
    expected = float((chance * torch.tensor(unit.levels)).sum())
    assert float(soft.sum()) == pytest.approx(expected, rel=1e-5)
    # What a smaller level keeps is kept with a higher chance than what only larger ones keep.
    depth = masks.sum(0)
    means = [float(soft[depth == d].min()) for d in sorted(set(depth.flatten().tolist()))]
    assert means == sorted(means)
    for level in range(len(unit.levels)):
        one = torch.nn.functional.one_hot(torch.tensor(level), len(unit.levels)).float()
        assert torch.equal(soft_mask(masks, one), masks[level].float())
    size = CostTarget("s", case.space)
    share = float(size.expected_shares(learner.probabilities())[0])
    moment = StepState(size, 1.0, (1 - share) / (1 - size.end[0]), 0.1, torch.Generator())
    gradient = torch.autograd.grad(learner.penalty(moment), list(learner.parameters.values()))
    assert max(float(g.abs().max()) for g in gradient) < 1e-6


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (1, 2)])
def test_every_mixture_of_patterns_keeps_n(n: int, m: int) -> None:
    patterns = patterns_of(n, m)
    assert len(patterns) == math.comb(m, n)
    mixture = torch.softmax(torch.randn(50, len(patterns)), 1)
    torch.testing.assert_close((mixture @ patterns).sum(1), torch.full((50,), float(n)))


def test_patterns_settle_and_large_weights_are_preferred(make_case: Any) -> None:
    case = make_case(
        "maskllm",
        [{"kind": "sparsity", "levels": ["50%"]}],
        {"sparsity": "wanda", "pattern": "2:4"},
        "",
        temperature=1e-4,
        last_temperature=1e-4,
    )
    relaxed = relaxed_of(case.built)
    learner: Any = create_learner("maskllm", relaxed, case.built.store.files, case.options, 0, pattern="2:4")
    size = CostTarget("pattern", case.space)
    openings = learner.factors(moment_of(size))
    for mask in openings.values():
        # But where two patterns are drawn alike.
        assert float(((mask - mask.round()).abs() < 1e-3).float().mean()) > 0.99
        assert torch.allclose(mask.reshape(-1, 4).sum(1), torch.tensor(2.0))
    opening = next(iter(openings.values()))
    name = next(iter(openings))
    opening.retain_grad()
    penalty = learner.penalty(moment_of(size, 0.0))
    penalty.backward()
    weight = relaxed.weights.model_parameters[relaxed.matrices[name].name]
    order = weight.detach().square().flatten().argsort()
    pushed = -opening.grad.flatten()[order] * opening.detach().flatten()[order].clamp_min(1e-9)
    kept = opening.detach().flatten()[order] > 0.5
    assert bool((pushed[kept].diff() >= -1e-9).all()), "the larger a kept weight, the more it is worth keeping"
    decision = learner.decide(moment_of(size, 1.0))
    assert torch.equal(decision.scores[name].reshape(-1, 4).sum(1), torch.full((weight.numel() // 4,), 2.0))


def test_pdp_masks_are_one_half_at_the_threshold_and_harden() -> None:
    square = torch.tensor([[0.1, 0.4, 0.2, 0.9, 0.5]])
    mask = pdp_mask(square, 2, False, 1e-2)
    assert float(pdp_mask(torch.tensor([0.0, 0.2, 0.1]), 1, False, 1.0)[2]) < 0.5
    threshold = (0.4 + 0.5) / 2
    assert float(torch.sigmoid(torch.tensor((threshold - threshold) / 1e-2))) == 0.5
    assert bool((mask[0][square[0].argsort()].diff() >= 0).all())
    hard = pdp_mask(square, 2, False, 1e-6)
    assert torch.equal(hard > 0.5, torch.tensor([[False, False, False, True, True]]))
    assert float(hard.sum()) == pytest.approx(2)
    rows = pdp_mask(torch.tensor([[3.0, 1.0], [1.0, 3.0]]), 1, True, 1e-3)
    assert torch.equal(rows > 0.5, torch.tensor([[True, False], [False, True]]))


@pytest.mark.parametrize("regulariser", ["l1", "polarization", "mask"])
def test_scales_are_pushed_as_the_regulariser_says(make_case: Any, regulariser: str) -> None:
    case = make_case("slimming", WIDTHS, {}, "params<=85%", regulariser=regulariser, strength=3.0, tilt=1.5)
    learner: Any = create_learner("slimming", relaxed_of(case.built), case.built.store.files, case.options, 0)
    size, generator = CostTarget("s", case.space), torch.Generator().manual_seed(0)
    learner.begin(size)
    with torch.no_grad():
        for scale in learner.parameters.values():
            scale.copy_(torch.rand(scale.shape, generator=generator))
    scales = {name: scale.detach().numpy() for name, scale in learner.parameters.items()}
    flat = np.concatenate([scale.ravel() for scale in scales.values()])
    moment = moment_of(size, 0.5)
    gradients = torch.autograd.grad(learner.penalty(moment), list(learner.parameters.values()))
    pushed = np.concatenate([gradient.numpy().ravel() for gradient in gradients]) * len(flat) / (3.0 * 0.5)
    if regulariser == "l1":
        expected = np.ones(len(flat))
    elif regulariser == "polarization":
        sides = np.sign(flat - flat.mean())
        expected = 1.5 - sides + sides.mean()
    else:  # the elements with the smallest weights, as many as the size takes, whatever their scales are
        small = {name: learner.buffers[name] for name in scales}
        assert 0 < sum(int(g.sum()) for g in small.values()) < len(flat)
        for name, unit in learner.units.items():
            weights, is_small = learner.relaxed.mean_squares(unit).detach(), small[name] > 0
            for row, small_row in zip(weights, is_small, strict=True):
                mixed = small_row.any() and not small_row.all()
                assert not mixed or float(row[small_row].max()) <= float(row[~small_row].min())
        expected = np.concatenate([g.numpy().ravel() for g in small.values()])
    np.testing.assert_allclose(pushed, expected, atol=1e-5)


def test_equal_scales_are_told_apart_by_their_weights(make_case: Any) -> None:
    case = make_case("slimming", WIDTHS, {}, "params<=85%")
    learner: Any = create_learner("slimming", relaxed_of(case.built), case.built.store.files, case.options, 0)
    size = CostTarget("s", case.space)
    decision = learner.decide(moment_of(size, 1.0))  # all scales are 1 still
    genome = genome_of(case.space, decision)
    assert case.space.costs.named(genome.levels)["params"] > 0.9 * case.space.bounds[0].maximum
    assert len({decision.kept[u.name] / u.total for u in case.space.units}) > 1
    for name, tensor in decision.weights.items():
        torch.testing.assert_close(tensor, learner.relaxed.weights.model_parameters[name].detach())


def test_higher_thresholds_never_cost_more_and_nothing_is_paid_below_the_size(make_case: Any) -> None:
    case = make_case("lapp", SPARSITY, {"sparsity": "wanda"}, "nonzeros<=85%")
    learner: Any = create_learner("lapp", relaxed_of(case.built), None, case.options, 0)
    size, last = CostTarget("s", case.space), math.inf
    for threshold in (0.0, 0.3, 0.6, 1.0, 2.0):
        learner.parameters = {name: torch.tensor(threshold, requires_grad=True) for name in learner.units}
        share = float(size.expected_shares(learner.probabilities())[0])
        assert share <= last
        last = share
        penalty = learner.penalty(moment_of(size, 1.0))
        assert (float(penalty) == 0) == (share <= size.end[0])
        if share <= size.end[0]:
            gradients = torch.autograd.grad(penalty, list(learner.parameters.values()))
            assert all(float(g) == 0 for g in gradients)
    assert last < size.end[0]


def test_projected_groups_are_zero_and_the_network_is_the_cut_one(make_case: Any, tmp_path: Path) -> None:
    case = make_case("oto", WIDTHS, {}, "params<=85%")
    learning = case.learning(tmp_path)
    while learning.alternation.step < learning.alternation.steps:
        learning.alternation.begin()
        learning.alternation.advance()
    moment, relaxed = learning.alternation.state(), learning.relaxed
    decision = learning.learner.decide(moment)
    # Not repaired: exactly the groups that were pushed away, whether or not a level keeps so many.
    kept = {name: int(count) for name, count in decision.kept.items()}
    units = tuple(replace(u, levels=tuple(sorted({u.total, kept[u.name]}, reverse=True))) for u in case.space.units)
    genome = Genome.of([len(unit.levels) - 1 for unit in units])
    assert sum(genome.levels) > 0
    space = Space(units, case.space.parts, case.space.bytes_per_weight)
    small = learned_network(relaxed, space, case.built.store.files, decision, genome)
    rows, task = case.samples.rows(slice(0, 2)), relaxed.network.task
    with torch.no_grad():
        whole = task.call(relaxed.weights.model, rows.inputs(small))
        torch.testing.assert_close(task.call(small, rows.inputs(small)), whole, atol=1e-5, rtol=1e-4)
    for name, unit in relaxed.units.items():
        kept_groups = decision.scores[name] >= 2
        for tensor, slot in relaxed.writers(unit):
            last = relaxed.weights.model_parameters[tensor].detach().movedim(slot.axis, -1)
            removed = torch.from_numpy(slot.index)[~kept_groups]
            assert not last[..., removed.flatten()].any()


def test_a_loss_that_is_no_number_ends_the_size_with_the_last_good_state(make_case: Any, tmp_path: Path) -> None:
    case = make_case("cofi", WIDTHS, {}, "macs<=85%")
    learning, straight = case.learning(tmp_path / "a"), case.learning(tmp_path / "b")
    original_loss, calls = learning.alternation.loss, []

    def broken(tensors: Any, samples: Samples) -> torch.Tensor:
        calls.append(1)
        return original_loss(tensors, samples) * (math.nan if len(calls) == 6 else 1)

    learning.alternation.loss = broken
    # The fifth step still had a loss that was a number: what it led to is not known to be any good.
    for _ in range(4):
        straight.alternation.begin()
        straight.alternation.advance()
    expected = state_of(straight)
    learning.run_for(1e9)
    (result,) = learning.chain.results(tmp_path / "a")
    assert result["stopped"] == "loss nan at step 6"
    assert result["tokens"] == case.tokens(5)
    assert learning.done
    state = state_of(learning)
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_weights_that_a_step_ruined_are_put_back(make_case: Any, tmp_path: Path) -> None:
    case = make_case("bip", SPARSITY, {"sparsity": "wanda"}, "nonzeros<=85%")
    learning = case.learning(tmp_path, sizes=2)
    learning.alternation.training = TRAINING.model_copy(update={"learning_rate": 1e30})
    dense = {name: parameter.detach().clone() for name, parameter in learning.relaxed.weights.model_parameters.items()}
    while not learning.done:
        learning.run_for(1e9)
    results = learning.chain.results(tmp_path)
    assert [result["stopped"].rpartition(" at ")[2] for result in results] == ["step 1", "step 1"]
    assert all(torch.equal(learning.relaxed.weights.model_parameters[name], weight) for name, weight in dense.items())


def test_sizes_start_where_the_same_cost_was_left(make_case: Any) -> None:
    space = make_case("gates", [*WIDTHS, {"kind": "drop_attention"}], {}, "params<=85%").built.space
    sizes: list[CostTarget] = []
    for limits in (["params<=90%"], ["macs<=90%"], ["params<=85%", "macs<=85%"]):
        bounded = space.with_limits([Limit.parse(limit) for limit in limits])
        sizes.append(CostTarget(limits[0], bounded, sizes[-1] if sizes else None))
    assert sizes[0].start == sizes[1].start == [1.0]
    assert sizes[2].start == [1.0, sizes[1].end[0]]


def test_multipliers_of_another_cost_begin_anew(make_case: Any) -> None:
    case = make_case("gates", [*WIDTHS, {"kind": "drop_attention"}], {}, "params<=85%")
    learner: Any = create_learner("gates", relaxed_of(case.built), case.built.store.files, case.options, 0)
    both = case.built.space.with_limits([Limit.parse("params<=85%"), Limit.parse("macs<=85%")])
    for space, fresh in ((case.space, True), (case.space, False), (both, True)):
        size = CostTarget("s", space)
        learner.begin(size)
        assert (float(learner.multipliers["linear"].detach().abs().max()) == 0) == fresh
        assert torch.autograd.grad(learner.penalty(moment_of(size)), learner.multipliers["linear"])[0].shape == (
            len(space.bounds),
        )
        with torch.no_grad():
            learner.multipliers["linear"] += 1


def test_groups_are_gone_when_a_ramp_of_all_steps_ends(make_case: Any, tmp_path: Path) -> None:
    case = make_case("oto", WIDTHS, {}, "params<=85%", ramp=1.0)
    learning = case.learning(tmp_path)
    learning.alternation.begin()
    while not learning.alternation.ended:
        learning.alternation.advance()
    for name in learning.relaxed.units:
        kept, nonzero = (learning.learner.buffers[f"{name}:{buffer}"] for buffer in (KEPT, NONZERO))
        assert torch.equal(kept, nonzero)


def test_a_multiplier_that_runs_away_is_bounded_and_told(make_case: Any, tmp_path: Path) -> None:
    case = make_case("gates", [*WIDTHS, {"kind": "drop_attention"}], {}, "params<=85%", multiplier_rate=1e9)
    learning = case.learning(tmp_path)
    while not learning.done:
        learning.run_for(1e9)
    (result,) = learning.chain.results(tmp_path)
    assert "a multiplier reached" in result["note"]
    assert case.space.feasible(Genome.of(result["genome"]))


def test_a_torn_checkpoint_falls_back_to_the_one_before(make_case: Any, tmp_path: Path) -> None:
    case = make_case("gates", [*WIDTHS, {"kind": "drop_attention"}], {}, "params<=85%")
    learning = case.learning(tmp_path)
    place = tmp_path / "0-0" / "checkpoint"
    for _ in range(2):
        learning.alternation.begin()
        learning.alternation.advance()
        learning.alternation.save(place)
    (place / "state.safetensors").write_bytes(b"torn")
    assert case.learning(tmp_path).alternation.step == 1
    assert json.loads((place / STATE).read_text())["step"] == 2


def test_weights_and_choice_see_disjoint_data() -> None:
    samples = Samples({"input_ids": np.arange(40).reshape(10, 4)})
    lower, upper = split(samples, 0.3, 0)
    assert (len(lower), len(upper)) == (7, 3)
    assert not set(lower.arrays["input_ids"].flatten()) & set(upper.arrays["input_ids"].flatten())
    assert split(samples, 0.0, 0) == (samples, samples)


@pytest.mark.parametrize("moves", ["frozen", "lora", "full"])
def test_only_what_may_move_moves(make_case: Any, tmp_path: Path, moves: str) -> None:
    case = make_case("gates", [*WIDTHS, {"kind": "drop_attention"}], {}, "params<=85%", weights=moves)
    learning = case.learning(tmp_path, steps=3)
    before = copy.deepcopy(learning.relaxed.weights.model.state_dict())
    for _ in range(3):
        learning.alternation.begin()
        learning.alternation.advance()
    changed = any(
        not torch.equal(tensor, before[name]) for name, tensor in learning.relaxed.weights.model.state_dict().items()
    )
    assert changed == (moves == "full")
    updates = [p for name, p in learning.relaxed.weights.parameters.items() if name.endswith(":b")]
    assert any(bool(b.detach().any()) for b in updates) == (moves == "lora")
