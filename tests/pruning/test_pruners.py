"""Local pruners: one conformance suite, then the identity that each method must hold."""

from __future__ import annotations

import itertools

import pytest
import torch
from pruning.cases import DAMP, OPTIONS, I, O, group, layer, made

from sparsesearch.config import PrunerConfig
from sparsesearch.errors import InputError
from sparsesearch.pruning import STRUCTURED, UNSTRUCTURED, Group, Layer, layer_error, unstructured
from sparsesearch.pruning.layer import kept_inputs
from sparsesearch.pruning.linalg import add_damping, inverse_cholesky
from sparsesearch.pruning.obs import obs, refit
from sparsesearch.pruning.removal import Sweep, removal_order
from sparsesearch.pruning.sparsegpt import sparsegpt
from sparsesearch.testing import check_pruner
from sparsesearch.testing.pruners import without_gradients

wanda = UNSTRUCTURED["wanda"].prune
# Every option that a pruner may read, changed; who reads which.
CHANGED = {"alpha": 3.0, "order": 2, "seed": 7}
READS = {"gblm": "alpha", "taylor": "order", "random": "seed"}

KEPT = [O * I - 1, 1500, 701, 96, 1, 0]


@pytest.mark.parametrize("name", UNSTRUCTURED)
class TestUnstructured:
    def test_conformance(self, name: str) -> None:
        check_pruner(name, "sparsity")

    def test_counts_are_exact_whatever_ties(self, name: str) -> None:
        levels = unstructured(name)(made(*layer()), KEPT, OPTIONS).weights
        assert [int(torch.count_nonzero(level)) for level in levels] == KEPT
        tied = unstructured(name)(made(torch.ones(O, I), torch.eye(I)), [500], OPTIONS).weights
        assert int(torch.count_nonzero(tied[0])) == 500

    def test_missing_gradients_are_named(self, name: str) -> None:
        target = made(*layer())
        if UNSTRUCTURED[name].needs_gradients:
            with pytest.raises(InputError, match=f"SS209 pruner {name} needs gradients"):
                unstructured(name)(Layer(target.weight_OI, target.inputs), [900], OPTIONS)

    def test_only_its_own_option_changes_a_pruner(self, name: str) -> None:
        target = made(*layer())
        before = unstructured(name)(target, [900], OPTIONS).weights
        for option, value in CHANGED.items():
            after = unstructured(name)(target, [900], OPTIONS.model_copy(update={option: value, "refit": True})).weights
            assert torch.equal(before, after) == (READS.get(name) != option)


@pytest.mark.parametrize("name", STRUCTURED)
@pytest.mark.parametrize("span", [1, 4])
class TestStructured:
    def test_levels_are_nested_and_shaped(self, name: str, span: int) -> None:
        weight, moment = layer(inputs=24)
        elements = 24 // span
        kept = [elements - 1, elements // 2, 1]
        order, levels = STRUCTURED[name].prune(group(weight, moment, span), kept, OPTIONS)
        assert len(set(order.tolist())) == len(order) == elements - 1
        assert [tuple(reader.shape) for level in levels for reader in level] == [(O, k * span) for k in kept]
        index = torch.arange(24).view(-1, span)
        sets = [set(kept_inputs(index, order, k).tolist()) for k in kept]
        assert sets[2] < sets[1] < sets[0]

    def test_weights_stay_as_they_are_unless_refit(self, name: str, span: int) -> None:
        weight, moment = layer(inputs=24)
        target = group(weight, moment, span)
        for refits in (name == "obs", True):
            options = OPTIONS.model_copy(update={"refit": refits})
            order, levels = STRUCTURED[name].prune(target, [3], options)
            columns = kept_inputs(target.readers[0].index, order, 3)
            matrix = add_damping(moment.double(), DAMP)[0]
            expected = refit(weight.double() @ matrix, matrix, columns).float()
            assert torch.equal(levels[0][0], expected if refits else weight[:, columns])

    def test_missing_gradients_are_named(self, name: str, span: int) -> None:
        target = group(*layer(inputs=24), span)
        bare = without_gradients(target)
        if STRUCTURED[name].needs_gradients:
            for missing in (bare, Group(bare.readers, target.writers), Group(target.readers, bare.writers)):
                with pytest.raises(InputError, match=f"SS209 pruner {name} needs gradients"):
                    STRUCTURED[name].prune(missing, [2], OPTIONS)


@pytest.mark.parametrize("name", STRUCTURED)
def test_conformance_of_pruners_of_elements(name: str) -> None:
    check_pruner(name, "width")


def test_magnitude_levels_are_nested_and_keep_the_largest() -> None:
    weight, moment = layer()
    large, small = UNSTRUCTURED["magnitude"].prune(made(weight, moment), [900, 300], OPTIONS)
    assert not ((small != 0) & (large == 0)).any()
    assert weight[large != 0].abs().min() >= weight[large == 0].abs().max()


def test_wanda_keeps_equally_many_in_every_row_and_ignores_row_scale() -> None:
    weight, moment = layer()
    level = wanda(made(weight, moment), [O * 50], OPTIONS)[0]
    assert (torch.count_nonzero(level, dim=1) == 50).all()
    scaled = wanda(made(weight * torch.rand(O, 1).add(0.1), moment), [O * 50], OPTIONS)[0]
    assert torch.equal(scaled != 0, level != 0)


def test_wanda_score_is_sparsegpts_for_uncorrelated_inputs() -> None:
    moment = torch.diag(torch.rand(I) + 0.1)
    weight = layer()[0]
    upper, *_ = inverse_cholesky(moment, 1e-9)
    sparsegpt_score = (weight / upper.diagonal()) ** 2
    assert torch.allclose(sparsegpt_score, (weight.abs() * moment.diagonal().sqrt()) ** 2, rtol=1e-4)


def test_sparsegpt_changes_no_value_it_keeps_for_uncorrelated_inputs() -> None:
    moment = torch.diag(torch.rand(I) + 0.1)
    weight = layer()[0]
    level = sparsegpt(made(weight, moment), [800], OPTIONS).weights[0]
    assert torch.allclose(level[level != 0], weight[level != 0], atol=1e-5)


def test_sparsegpts_summed_errors_equal_the_trace_form() -> None:
    """sum err² = tr(Δ (H + λI) Δᵀ), with the errors recomputed here column by column from the mask it chose."""
    weight, moment = (x.double() for x in layer())
    level = sparsegpt(made(weight, moment), [700], OPTIONS).weights[0]
    upper, *_ = inverse_cholesky(moment, DAMP)
    work, total = weight.clone(), 0.0
    for j in range(I):
        error = torch.where(level[:, j] != 0, 0.0, work[:, j]) / upper[j, j]
        total += float(error.square().sum())
        work[:, j:] -= error[:, None] * upper[j, j:]
        work[:, j] = torch.where(level[:, j] != 0, work[:, j], 0.0)
    assert torch.allclose(work, level, atol=1e-8)
    change = weight - level
    trace = float(((change @ add_damping(moment, DAMP)[0]) * change).sum())
    assert total == pytest.approx(trace, rel=1e-8)


def test_least_squares_on_sparsegpts_mask_is_a_lower_bound() -> None:
    weight, moment = (x.double() for x in layer())
    level = sparsegpt(made(weight, moment), [700], OPTIONS).weights[0]
    matrix = add_damping(moment, DAMP)[0]
    refit = torch.zeros_like(weight)
    for row in range(O):
        kept = level[row] != 0
        refit[row, kept] = torch.linalg.solve(matrix[kept][:, kept], (weight @ matrix)[row, kept])
    assert layer_error(weight, refit, matrix) <= layer_error(weight, level, matrix) + 1e-12
    magnitude = UNSTRUCTURED["magnitude"].prune(made(weight, moment), [700], OPTIONS)[0]
    assert layer_error(weight, level, matrix) < layer_error(weight, magnitude, matrix)


@pytest.mark.parametrize("span", [1, 3])
def test_structured_obs_equals_the_least_squares_refit_on_the_kept_inputs(span: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(500, 12, generator=generator, dtype=torch.float64) @ torch.randn(
        12, 12, dtype=torch.float64, generator=generator
    )
    weight = torch.randn(5, 12, generator=generator, dtype=torch.float64)
    order, levels = obs(group(weight, x.T @ x / 500, span), [2], PrunerConfig(damp=1e-9))
    kept = kept_inputs(torch.arange(12).view(-1, span), order, 2)
    refit = torch.linalg.lstsq(x[:, kept], x @ weight.T).solution.T
    assert torch.allclose(levels[0][0], refit, atol=1e-5)


def test_obs_removes_inputs_that_never_fire_first() -> None:
    weight, moment = layer(outputs=4, inputs=6)
    moment[2], moment[:, 2] = 0.0, 0.0
    order, levels = obs(group(weight, moment * 1e-3, 1), [5, 3], OPTIONS)
    assert order[0] == 2
    assert torch.isfinite(levels[1][0]).all()


@pytest.mark.parametrize("span", [1, 2])
def test_obs_removes_greedily_what_adds_least_error(span: int) -> None:
    """Every removal is the one that brute force over the remaining elements finds."""
    weight, moment = (x.double() for x in layer(outputs=4, inputs=8))
    matrix = add_damping(moment, DAMP)[0]
    sweep = Sweep(weight, torch.linalg.inv(matrix), torch.arange(8).view(-1, span))
    order = removal_order([sweep], 8 // span - 1).tolist()

    def error_without(removed: list[int]) -> float:
        columns = torch.tensor([c for c in range(8) if c // span not in removed])
        full = torch.zeros_like(weight)
        full[:, columns] = torch.linalg.solve(matrix[columns][:, columns], (weight @ matrix)[:, columns].T).T
        return layer_error(weight, full, matrix)

    for step in range(len(order)):
        rest = [e for e in range(8 // span) if e not in order[:step]]
        best = min(rest, key=lambda e: error_without([*order[:step], e]))
        assert best == order[step]


def test_one_removal_costs_what_the_formula_says() -> None:
    weight, moment = (x.double() for x in layer(outputs=4, inputs=6))
    matrix = add_damping(moment, DAMP)[0]
    inverse = torch.linalg.inv(matrix)
    dense = float(((weight @ matrix) * weight).sum())
    for a, b in itertools.combinations(range(6), 2):
        group = torch.tensor([a, b])
        rest = torch.tensor([c for c in range(6) if c not in (a, b)])
        formula = float((weight[:, group] @ torch.linalg.inv(inverse[group][:, group]) * weight[:, group]).sum())
        full = torch.zeros_like(weight)
        full[:, rest] = torch.linalg.solve(matrix[rest][:, rest], (weight @ matrix)[:, rest].T).T
        assert layer_error(weight, full, matrix) * dense == pytest.approx(formula, rel=1e-9)


def test_damping_rises_until_the_matrix_is_positive_definite() -> None:
    moment = torch.ones(8, 8) - 0.05 * torch.eye(8)  # eigenvalue -0.05
    upper, *_ = inverse_cholesky(moment, 0.01)
    assert torch.isfinite(upper).all()
