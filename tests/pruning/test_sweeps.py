"""Blocked sweeps: they give what one removal or one column at a time gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning.cases import DAMP, I, O, layer, made
from support import Built

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning import layer_errors, linalg, removal, unstructured
from sparsesearch.pruning.layer import Levels
from sparsesearch.pruning.linalg import add_damping
from sparsesearch.pruning.removal import Sweep, removal_order

System = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def system(outputs: int, inputs: int, span: int, seed: int) -> System:
    """Return random weights, inverse second moments and the inputs of each element, in any order."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3 * inputs, inputs, dtype=torch.float64, generator=generator)
    moment = x.T @ x / len(x) * torch.rand(inputs, dtype=torch.float64, generator=generator).add(0.1)
    weight = torch.randn(outputs, inputs, dtype=torch.float64, generator=generator)
    inverse = torch.linalg.inv(add_damping((moment + moment.T) / 2, DAMP)[0])
    return weight, inverse, torch.randperm(inputs, generator=generator).view(-1, span)


def one_at_a_time(systems: Sequence[System], remove: int) -> list[int]:
    """Return the order of removal with all weights and inverse second moments updated after each removal."""
    systems = [(weight.clone(), inverse.clone(), index) for weight, inverse, index in systems]
    order: list[int] = []
    for _ in range(remove):
        costs = torch.zeros(len(systems[0][2]), dtype=torch.float64)
        for weight, inverse, index in systems:
            for element in set(range(len(index))) - set(order):
                c = index[element]
                w = weight[:, c]
                costs[element] += (w @ torch.linalg.inv(inverse[c][:, c]) * w).sum()
        costs[order] = torch.inf
        order.append(int(costs.argmin()))
        for weight, inverse, index in systems:
            c = index[order[-1]]
            gain = torch.linalg.solve(inverse[c][:, c], inverse[c])
            weight -= weight[:, c] @ gain
            inverse -= inverse[:, c] @ gain
    return order


@settings(max_examples=40, deadline=None)
@given(
    elements=st.integers(2, 14),
    span=st.sampled_from([1, 2, 5]),
    readers=st.integers(1, 3),
    per_block=st.sampled_from([1, 3, 10, 64]),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 10),
)
def test_elements_are_removed_in_the_order_of_one_at_a_time(
    elements: int, span: int, readers: int, per_block: int, share: float, seed: int
) -> None:
    systems = [system(3 + reader, elements * span, span, seed + reader) for reader in range(readers)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removal, "INPUTS_PER_BLOCK", per_block)
        patch.setattr(removal, "REMOVED_SHARE", share)
        order = removal_order([Sweep(*each) for each in systems], elements - 1)
    assert order.tolist() == one_at_a_time(systems, elements - 1)


def test_nothing_to_remove_is_an_empty_order() -> None:
    assert removal_order([Sweep(*system(3, 4, 1, 0))], 0).tolist() == []


@pytest.mark.parametrize("remove", [1, 63, 64, 65, 200])
def test_a_sweep_holds_the_exact_inverse_and_products_of_what_remains(remove: int) -> None:
    """After any number of blocks they are those of the least-squares refit, to 1e-9."""
    weight, inverse, index = system(20, 240, 1, 3)
    sweep = Sweep(weight, inverse, index)
    order = removal_order([sweep], remove)
    sweep.update()
    held = sweep._inverse_blocks.flatten()
    kept = torch.tensor([e for e in range(240) if e not in set(order.tolist())])
    inputs = index[kept].flatten()
    moment = torch.linalg.inv(inverse)
    small = torch.linalg.inv(moment[inputs][:, inputs])
    refit = (weight @ moment)[:, inputs] @ small
    costs = refit.square().sum(dim=0) / small.diagonal()
    mask = held.abs() > 1e-6 * held.abs().max()  # a removed element has no inverse left
    assert torch.allclose(held[mask], small.diagonal(), rtol=1e-9)
    swept = sweep.costs(~mask)[mask]
    assert torch.allclose(swept, costs, rtol=1e-9)


@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_errors_from_the_sweep_are_those_of_the_weights(pattern: str | None) -> None:
    weight, moment = layer()
    moment[7], moment[:, 7] = 0.0, 0.0  # an input that is always zero
    kept = [O * I // 2] if pattern else [O * I - 1, 700, 96, 0]
    target = made(weight, moment)
    levels = unstructured("sparsegpt")(target, kept, PrunerConfig(damp=DAMP, pattern=pattern))
    assert levels.errors is not None
    assert torch.allclose(
        layer_errors(target, levels), layer_errors(target, Levels(levels.weights)), rtol=1e-3, atol=1e-6
    )


def test_matrices_with_the_same_inputs_share_a_factorisation(
    family_dir: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    calls = []
    original = linalg.inverse_cholesky

    def counted(moment: torch.Tensor, damp: float) -> linalg.InverseFactor:
        calls.append(len(moment))
        return original(moment, damp)

    monkeypatch.setattr(linalg, "inverse_cholesky", counted)
    built = Built(family_dir("llama"), tmp_path, units=[{"kind": "sparsity", "levels": 3}])  # type: ignore[operator]
    inputs = {(m.block, m.input_key) for m in built.launch.network.matrices.values() if m.block >= 0}
    assert len(calls) == len(inputs)
    assert len(inputs) < len(built.space.units)
