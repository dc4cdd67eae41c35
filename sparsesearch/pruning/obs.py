"""Structured optimal brain surgeon for the inputs of a sublayer's output linear (ZipLM, Kurtic et al., 2023).

An element (one FFN neuron, or all query heads of one KV group) is a span of adjacent columns. Elements are removed one
at a time, cheapest first: cost_g = tr(W_g ([H⁻¹]_gg)⁻¹ W_gᵀ). Only the order is kept from the sweep; each level's
weights come from the closed form W_S = (W H)_S H_SS⁻¹, the least-squares refit on the kept inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsesearch.pruning.linalg import damped


def obs(
    weight_OI: torch.Tensor, second_moment_II: torch.Tensor, span: int, kept: Sequence[int], damp: float
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Removal order and refitted weights of every level.

    Args:
        weight_OI: dense weights, float32; I is a multiple of `span`.
        second_moment_II: H, float32.
        span: columns of one element.
        kept: elements kept at each level, all >= 1.
        damp: λ as a fraction of the mean diagonal of H.

    Returns:
        The elements removed, in order, as many as the smallest level needs; and for each level the weights of the
        kept columns in ascending order, shape (O, span * kept).
    """
    matrix, dead = damped(second_moment_II.double(), damp)
    # Inputs that never fire carry nothing: with zero weights they are the first to go.
    weight = weight_OI.double().masked_fill(dead, 0.0)
    elements = len(matrix) // span
    order = removal_order(weight, torch.linalg.inv(matrix), span, elements - min(kept, default=elements))
    product = weight @ matrix
    levels = []
    for count in kept:
        columns = kept_columns(order, elements, count, span)
        system = matrix[columns][:, columns]
        levels.append(torch.linalg.solve(system, product[:, columns].T).T.to(weight_OI.dtype).contiguous())
    return order, levels


def removal_order(weight_OI: torch.Tensor, inverse_II: torch.Tensor, span: int, remove: int) -> torch.Tensor:
    """The first `remove` elements in order of removal, with the exact downdates of weights and inverse after each."""
    weight, inverse = weight_OI.clone(), inverse_II.clone()
    elements = len(inverse) // span
    alive = torch.ones(elements, dtype=torch.bool, device=weight.device)
    index = torch.arange(len(inverse), device=weight.device).view(elements, span)
    order = []
    for _ in range(remove):
        chosen = int(_costs(weight, inverse, index, alive).argmin())
        columns = index[chosen]
        gain = torch.linalg.solve(inverse[columns][:, columns], inverse[columns])  # (span, I)
        weight -= weight[:, columns] @ gain
        inverse -= inverse[:, columns] @ gain
        weight[:, columns] = 0.0
        alive[chosen] = False
        order.append(chosen)
    return torch.tensor(order, dtype=torch.int64)


def _costs(weight_OI: torch.Tensor, inverse_II: torch.Tensor, index: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
    """What removing each element alone adds to the squared output error, shape (elements,); inf where removed."""
    if index.shape[1] == 1:
        costs = weight_OI.square().sum(dim=0) / inverse_II.diagonal()
    else:
        blocks = inverse_II[index[:, :, None], index[:, None, :]]
        blocks[~alive] = torch.eye(index.shape[1], dtype=blocks.dtype, device=blocks.device)
        grouped = weight_OI[:, index].permute(1, 2, 0)  # (elements, span, O)
        costs = (torch.linalg.solve(blocks, grouped) * grouped).sum(dim=(1, 2))
    return costs.masked_fill(~alive, torch.inf)


def kept_elements(order: torch.Tensor, elements: int, count: int) -> torch.Tensor:
    """The `count` elements that are left after the first removals of an order, ascending."""
    alive = torch.ones(elements, dtype=torch.bool)
    alive[order[: elements - count]] = False
    return alive.nonzero().flatten()


def kept_columns(order: torch.Tensor, elements: int, count: int, span: int) -> torch.Tensor:
    """The columns (or rows) of the kept elements, ascending."""
    kept = kept_elements(order, elements, count)
    return (kept[:, None] * span + torch.arange(span)).flatten()
