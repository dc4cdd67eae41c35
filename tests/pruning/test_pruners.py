"""Local pruners: one conformance suite, then the identity that each method must hold."""

from __future__ import annotations

import itertools

import pytest
import torch

from sparsesearch.pruning import STRUCTURED, UNSTRUCTURED, layer_error
from sparsesearch.pruning.linalg import damped, inverse_cholesky
from sparsesearch.pruning.obs import kept_columns, obs, removal_order
from sparsesearch.pruning.sparsegpt import sparsegpt
from sparsesearch.pruning.wanda import wanda

DAMP = 0.01
O, I = 12, 160  # more inputs than SparseGPT's column block


def layer(seed: int = 0, outputs: int = O, inputs: int = I, tokens: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, and E[x xᵀ] of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(inputs, inputs, generator=generator) / inputs**0.5 + torch.eye(inputs)
    x = torch.randn(tokens, inputs, generator=generator) @ mixing
    return torch.randn(outputs, inputs, generator=generator), x.T @ x / tokens


KEPT = [O * I - 1, 1500, 701, 96, 1, 0]


@pytest.mark.parametrize("name", UNSTRUCTURED)
class TestUnstructured:
    def test_counts_are_exact_and_no_level_touches_another(self, name: str) -> None:
        weight, moment = layer()
        before = weight.clone()
        levels = UNSTRUCTURED[name](weight, moment, KEPT, DAMP)
        assert [int(torch.count_nonzero(level)) for level in levels] == KEPT
        assert torch.equal(weight, before)
        for kept, level in zip(KEPT, levels, strict=True):
            assert torch.allclose(UNSTRUCTURED[name](weight, moment, [kept], DAMP)[0], level, atol=1e-5)

    def test_keeping_everything_changes_nothing(self, name: str) -> None:
        weight, moment = layer()
        assert torch.equal(UNSTRUCTURED[name](weight, moment, [O * I], DAMP)[0], weight)

    def test_ties_do_not_spoil_counts(self, name: str) -> None:
        moment = torch.eye(I)
        levels = UNSTRUCTURED[name](torch.ones(O, I), moment, [500], DAMP)
        assert int(torch.count_nonzero(levels[0])) == 500

    def test_dead_inputs_do_no_harm(self, name: str) -> None:
        weight, moment = layer()
        moment[5], moment[:, 5] = 0.0, 0.0
        levels = UNSTRUCTURED[name](weight, moment, [900], DAMP)
        assert torch.isfinite(levels).all()
        assert int(torch.count_nonzero(levels[0])) <= 900


@pytest.mark.parametrize("name", STRUCTURED)
@pytest.mark.parametrize("span", [1, 4])
class TestStructured:
    def test_levels_are_nested_and_shaped(self, name: str, span: int) -> None:
        weight, moment = layer(inputs=24)
        elements = 24 // span
        kept = [elements - 1, elements // 2, 1]
        order, levels = STRUCTURED[name](weight, moment, span, kept, DAMP)
        assert len(set(order.tolist())) == len(order) == elements - 1
        assert [tuple(level.shape) for level in levels] == [(O, k * span) for k in kept]
        sets = [set(kept_columns(order, elements, k, span).tolist()) for k in kept]
        assert sets[2] < sets[1] < sets[0]


def test_magnitude_levels_are_nested_and_keep_the_largest() -> None:
    weight, moment = layer()
    large, small = UNSTRUCTURED["magnitude"](weight, moment, [900, 300], DAMP)
    assert not ((small != 0) & (large == 0)).any()
    assert weight[large != 0].abs().min() >= weight[large == 0].abs().max()


def test_wanda_keeps_equally_many_in_every_row_and_ignores_row_scale() -> None:
    weight, moment = layer()
    level = wanda(weight, moment, [O * 50], DAMP)[0]
    assert (torch.count_nonzero(level, dim=1) == 50).all()
    scaled = wanda(weight * torch.rand(O, 1).add(0.1), moment, [O * 50], DAMP)[0]
    assert torch.equal(scaled != 0, level != 0)


def test_wanda_score_is_sparsegpts_for_uncorrelated_inputs() -> None:
    moment = torch.diag(torch.rand(I) + 0.1)
    weight = layer()[0]
    upper, _ = inverse_cholesky(moment, 1e-9)
    sparsegpt_score = (weight / upper.diagonal()) ** 2
    assert torch.allclose(sparsegpt_score, (weight.abs() * moment.diagonal().sqrt()) ** 2, rtol=1e-4)


def test_sparsegpt_changes_no_value_it_keeps_for_uncorrelated_inputs() -> None:
    moment = torch.diag(torch.rand(I) + 0.1)
    weight = layer()[0]
    level = sparsegpt(weight, moment, [800], DAMP)[0]
    assert torch.allclose(level[level != 0], weight[level != 0], atol=1e-5)


def test_sparsegpts_summed_errors_equal_the_trace_form() -> None:
    """sum err² = tr(Δ (H + λI) Δᵀ), with the errors recomputed here column by column from the mask it chose."""
    weight, moment = (x.double() for x in layer())
    level = sparsegpt(weight, moment, [700], DAMP)[0]
    upper, _ = inverse_cholesky(moment, DAMP)
    work, total = weight.clone(), 0.0
    for j in range(I):
        error = torch.where(level[:, j] != 0, 0.0, work[:, j]) / upper[j, j]
        total += float(error.square().sum())
        work[:, j:] -= error[:, None] * upper[j, j:]
        work[:, j] = torch.where(level[:, j] != 0, work[:, j], 0.0)
    assert torch.allclose(work, level, atol=1e-8)
    change = weight - level
    trace = float(((change @ damped(moment, DAMP)[0]) * change).sum())
    assert total == pytest.approx(trace, rel=1e-8)


def test_least_squares_on_sparsegpts_mask_is_a_lower_bound() -> None:
    weight, moment = (x.double() for x in layer())
    level = sparsegpt(weight, moment, [700], DAMP)[0]
    matrix = damped(moment, DAMP)[0]
    refit = torch.zeros_like(weight)
    for row in range(O):
        kept = level[row] != 0
        refit[row, kept] = torch.linalg.solve(matrix[kept][:, kept], (weight @ matrix)[row, kept])
    assert layer_error(weight, refit, matrix) <= layer_error(weight, level, matrix) + 1e-12
    magnitude = UNSTRUCTURED["magnitude"](weight, moment, [700], DAMP)[0]
    assert layer_error(weight, level, matrix) < layer_error(weight, magnitude, matrix)


@pytest.mark.parametrize("span", [1, 3])
def test_structured_obs_equals_the_least_squares_refit_on_the_kept_inputs(span: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(500, 12, generator=generator, dtype=torch.float64) @ torch.randn(
        12, 12, dtype=torch.float64, generator=generator
    )
    weight = torch.randn(5, 12, generator=generator, dtype=torch.float64)
    order, levels = obs(weight, x.T @ x / 500, span, [2], 1e-9)
    kept = kept_columns(order, 12 // span, 2, span)
    refit = torch.linalg.lstsq(x[:, kept], x @ weight.T).solution.T
    assert torch.allclose(levels[0], refit, atol=1e-5)


def test_obs_removes_inputs_that_never_fire_first() -> None:
    weight, moment = layer(outputs=4, inputs=6)
    moment[2], moment[:, 2] = 0.0, 0.0
    order, levels = obs(weight, moment * 1e-3, 1, [5, 3], DAMP)
    assert order[0] == 2
    assert torch.isfinite(levels[1]).all()


@pytest.mark.parametrize("span", [1, 2])
def test_obs_removes_greedily_what_adds_least_error(span: int) -> None:
    """Every removal is the one that brute force over the remaining elements finds."""
    weight, moment = (x.double() for x in layer(outputs=4, inputs=8))
    matrix = damped(moment, DAMP)[0]
    order = removal_order(weight, torch.linalg.inv(matrix), span, 8 // span - 1).tolist()

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
    matrix = damped(moment, DAMP)[0]
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
    upper, _ = inverse_cholesky(moment, 0.01)
    assert torch.isfinite(upper).all()
