"""Unstructured pruners by score, N:M patterns, the DSnoT polish and bias compensation: what each must hold."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning.cases import DAMP, OPTIONS, I, O, layer, made, sampled

from sparsesearch.config import PrunerConfig, validate
from sparsesearch.errors import InputError
from sparsesearch.pruning import STRUCTURED, UNSTRUCTURED, Group, Layer, Reader, bias_shift, unstructured
from sparsesearch.pruning.dsnot import dsnot
from sparsesearch.pruning.gblm import gblm
from sparsesearch.pruning.layer import kept_inputs
from sparsesearch.pruning.linalg import inverse_cholesky
from sparsesearch.pruning.magnitude import magnitude
from sparsesearch.pruning.random_ import random
from sparsesearch.pruning.taylor import taylor
from sparsesearch.pruning.wanda import wanda

BY_SCORE = {"random": random, "magnitude": magnitude, "wanda": wanda, "gblm": gblm, "taylor": taylor}
SEEDS = st.integers(0, 10_000)


def options(**changes: object) -> PrunerConfig:
    return PrunerConfig(damp=DAMP, **changes)


def uneven(seed: int, outputs: int = 6, inputs: int = 24) -> Layer:
    """A matrix in float64 whose inputs have means far from zero."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(50, inputs, generator=generator) + torch.randn(inputs, generator=generator)
    return sampled(x.double(), torch.randn(outputs, inputs, generator=generator).double())


@pytest.mark.parametrize("name", BY_SCORE)
def test_scores_give_nested_levels_and_keep_values(name: str) -> None:
    target = made(*layer())
    large, small = unstructured(name)(target, [900, 301], OPTIONS).weights
    assert not ((small != 0) & (large == 0)).any()
    assert torch.equal(large[large != 0], target.weight_OI[large != 0])


def test_random_depends_on_seed_and_shape_alone() -> None:
    weight, moment = layer()
    prune = UNSTRUCTURED["random"].prune
    first = prune(made(weight, moment), [900], options(seed=1))
    torch.rand(3)
    again = prune(made(torch.ones(O, I), moment), [900], options(seed=1))
    assert torch.equal(first != 0, again != 0)
    assert not torch.equal(first, prune(made(weight, moment), [900], options(seed=2)))


def test_gblm_without_gradients_weight_or_gradients_is_wanda() -> None:
    target = made(*layer())
    flat = Layer(target.weight_OI, target.inputs, torch.zeros(O, I))
    assert torch.equal(gblm(target, options(alpha=0))[0], wanda(target, OPTIONS)[0])
    assert torch.equal(gblm(flat, OPTIONS)[0], wanda(target, OPTIONS)[0])
    assert gblm(target, OPTIONS)[1] == wanda(target, OPTIONS)[1]
    assert not torch.equal(gblm(target, OPTIONS)[0], wanda(target, OPTIONS)[0])


def test_gblm_does_not_depend_on_the_number_of_samples() -> None:
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    g = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(1))
    scores = []
    for times in (1, 4):
        once = sampled(x.repeat(times, 1), torch.ones(3, 8))
        square = g.repeat(times, 1, 1).square().mean(dim=0)
        scores.append(gblm(Layer(once.weight_OI, once.inputs, square), OPTIONS)[0])
    assert torch.allclose(*scores)


def test_taylor_is_the_change_of_the_loss_when_a_weight_is_removed() -> None:
    """First order of a loss that is linear around the weights; second of one whose Hessian is E[g gᵀ], times two."""
    g = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(0))
    weight, moment = layer(outputs=3, inputs=8)
    target = Layer(weight, made(weight, moment).inputs, g.square().mean(dim=0), g.mean(dim=0))
    change = torch.zeros_like(weight)
    change[1, 4] = -weight[1, 4]
    linear, quadratic = (g.mean(dim=0) * change).sum().abs(), (g * change).sum(dim=(1, 2)).square().mean()
    assert torch.allclose(taylor(target, options(order=1))[0][1, 4], linear)
    assert torch.allclose(taylor(target, options(order=2))[0][1, 4], quadratic)


@pytest.mark.parametrize(("pattern", "inputs"), [("2:4", I), ("4:8", I), ("1:3", 159), ("3:5", I)])
@pytest.mark.parametrize("name", UNSTRUCTURED)
def test_a_pattern_keeps_exactly_n_of_every_m(name: str, pattern: str, inputs: int) -> None:
    n, m = map(int, pattern.split(":"))
    level = unstructured(name)(made(*layer(inputs=inputs)), [O * inputs // m * n], options(pattern=pattern)).weights[0]
    assert (torch.count_nonzero(level.view(O, -1, m), dim=-1) == n).all()


@pytest.mark.parametrize("name", BY_SCORE)
def test_a_pattern_keeps_the_highest_score_that_brute_force_finds(name: str) -> None:
    target = made(*layer(inputs=16))
    level = unstructured(name)(target, [O * 8], options(pattern="2:4")).weights[0]
    score = BY_SCORE[name](target, OPTIONS)[0].view(O, -1, 4)
    best = torch.stack([score[..., list(pair)].sum(-1) for pair in itertools.combinations(range(4), 2)]).amax(0)
    assert torch.allclose((score * (level != 0).view(O, -1, 4)).sum(-1), best)


def test_ties_in_a_pattern_fall_to_the_earlier_weight() -> None:
    level = UNSTRUCTURED["magnitude"].prune(made(torch.ones(2, 8), torch.eye(8)), [8], options(pattern="2:4"))[0]
    assert level.tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]] * 2


@pytest.mark.parametrize(("n", "m", "inputs"), [(2, 4, I), (1, 3, 159), (130, 140, 280)])
def test_sparsegpt_chooses_a_patterns_masks_on_updated_weights(n: int, m: int, inputs: int) -> None:
    """Against a sweep without column blocks that picks a group's mask when it gets there."""
    weight, moment = (x.double() for x in layer(inputs=inputs))
    kept = O * inputs // m * n
    level = UNSTRUCTURED["sparsegpt"].prune(made(weight, moment), [kept], options(pattern=f"{n}:{m}")).weights[0]
    upper, *_ = inverse_cholesky(moment, DAMP)
    work = weight.clone()
    for j in range(inputs):
        if j % m == 0:
            score = (work[:, j : j + m] / upper.diagonal()[j : j + m]) ** 2
            chosen = score.argsort(dim=1, descending=True, stable=True)[:, :n]
            keep = torch.zeros_like(score, dtype=torch.bool).scatter_(1, chosen, True)
        error = torch.where(keep[:, j % m], 0.0, work[:, j]) / upper[j, j]
        work[:, j:] -= error[:, None] * upper[j, j:]
        work[:, j] = torch.where(keep[:, j % m], work[:, j], 0.0)
    assert torch.allclose(level, work, atol=1e-8)


@pytest.mark.parametrize("name", ["wanda", "sparsegpt"])
def test_patterns_that_do_not_fit_are_named(name: str) -> None:
    target = made(*layer(outputs=2, inputs=6))
    with pytest.raises(InputError, match=r"SS104 pattern 2:4: a matrix of 2 x 6 has 6 inputs, not a multiple of 4"):
        unstructured(name)(target, [6], options(pattern="2:4"))
    for count in (3, 5):
        message = f"SS104 pattern 1:3 has one pruned level, 4 of 12 weights kept; got {count}."
        with pytest.raises(InputError, match=message):
            unstructured(name)(target, [4, count], options(pattern="1:3"))


def test_patterns_in_recipes() -> None:
    def pruners(pattern: object) -> PrunerConfig:
        return validate({"units": [{"kind": "sparsity"}], "pruners": {"pattern": pattern}}, "recipe").pruners

    assert pruners("4:8").pattern == "4:8"
    assert pruners(2 * 60 + 4).pattern == "2:4"  # what YAML makes of 2:4 without quotes
    for wrong in ("4:2", "2:2", "0:4", "2-4", 30, 2.4, True):
        with pytest.raises(InputError, match=r'SS101 recipe pruners.pattern: a pattern is "N:M"'):
            pruners(wrong)


def expected_error(target: Layer, level: torch.Tensor) -> torch.Tensor:
    return ((target.weight_OI - level) @ target.inputs.mean).abs()


@pytest.mark.parametrize(("pattern", "kept"), [(None, 70), ("2:4", 72), ("4:8", 72)])
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_dsnot_keeps_counts_and_never_raises_the_expected_error(pattern: str | None, kept: int, seed: int) -> None:
    target = uneven(seed)
    plain = UNSTRUCTURED["wanda"].prune(target, [kept], options(pattern=pattern))[0]
    polished = UNSTRUCTURED["wanda"].prune(target, [kept], options(pattern=pattern, polish="dsnot"))[0]
    group = int(pattern.split(":")[1]) if pattern else 24
    counts = [torch.count_nonzero(level.view(6, -1, group), dim=-1) for level in (plain, polished)]
    assert torch.equal(*counts)
    assert torch.equal(polished[polished != 0], target.weight_OI[polished != 0])
    before, after = expected_error(target, plain), expected_error(target, polished)
    assert (after <= before + 1e-12).all()
    alone = before < 0.1
    assert torch.equal(plain[alone], polished[alone])


def test_dsnot_lowers_the_expected_error_of_most_rows() -> None:
    target = uneven(0, outputs=40)
    levels = [UNSTRUCTURED["magnitude"].prune(target, [500], options(polish=polish))[0] for polish in (None, "dsnot")]
    before, after = (expected_error(target, level) for level in levels)
    assert after.mean() < 0.5 * before.mean()


def test_dsnot_swaps_by_hand() -> None:
    """e is 7. Growing 3 gains most for its variance, 0 compensates at less cost than 1: 2. Then 2 against 3: 1."""
    mean, deviation = torch.ones(4), torch.tensor([1.0, 1.0, 8.0, 1.0]).sqrt()
    target = sampled(torch.stack([mean + deviation, mean - deviation]), torch.tensor([[-2.0, -5.0, 4.0, 3.0]]))
    keep = torch.tensor([[[True, True, False, False]]])
    assert dsnot(target, keep, 4).tolist() == [[[False, True, True, False]]]
    assert dsnot(target, keep, 2).tolist() == keep.tolist()  # neither pair of neighbours has one of each
    assert keep.tolist() == [[[True, True, False, False]]]


def test_dsnot_is_for_pruners_that_keep_values() -> None:
    with pytest.raises(InputError, match=r"SS104 pruners\.polish dsnot"):
        UNSTRUCTURED["sparsegpt"].prune(made(*layer()), [900], options(polish="dsnot"))


@pytest.mark.parametrize("name", ["magnitude", "sparsegpt"])
def test_bias_shift_preserves_the_mean_output_of_sparse_weights(name: str) -> None:
    x = torch.randn(200, 24, generator=torch.Generator().manual_seed(0)).double() + 1
    target = sampled(x, torch.randn(5, 24, generator=torch.Generator().manual_seed(1)).double())
    pruned = unstructured(name)(target, [50], OPTIONS).weights[0]
    shift = bias_shift(target.weight_OI, pruned, target.inputs.mean)
    assert torch.allclose((x @ pruned.T + shift).mean(0), (x @ target.weight_OI.T).mean(0))


@pytest.mark.parametrize("refit", [False, True])
def test_bias_shift_preserves_the_mean_output_of_narrower_weights(refit: bool) -> None:
    x = torch.randn(200, 24, generator=torch.Generator().manual_seed(0)).double() + 1
    target = sampled(x, torch.randn(5, 24, generator=torch.Generator().manual_seed(1)).double())
    index = torch.arange(24).view(-1, 3)
    order, levels = STRUCTURED["flap"].prune(Group((Reader(target, index),), ()), [5], options(refit=refit))
    columns = kept_inputs(index, order, 5)
    padded = torch.zeros_like(target.weight_OI).index_copy(1, columns, levels[0][0])
    shift = bias_shift(target.weight_OI, padded, target.inputs.mean)
    assert torch.allclose((x[:, columns] @ levels[0][0].T + shift).mean(0), (x @ target.weight_OI.T).mean(0))
