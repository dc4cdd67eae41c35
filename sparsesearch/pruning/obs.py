"""Structured optimal brain surgeon for the matrices that read the elements of a cut (ZipLM, Kurtic et al., 2023).

An element (a neuron, all query heads of a KV group, a channel with all taps of its kernels) is a set of inputs.
Elements are removed one at a time, cheapest first: cost_g = tr(W_g ([H⁻¹]_gg)⁻¹ W_gᵀ), summed over the readers. Only
the order is kept from the sweep; each level's weights come from the closed form W_S = (W H)_S H_SS⁻¹, the least-squares
refit on the kept inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.layer import Group, Reader, kept_inputs
from sparsesearch.pruning.linalg import add_damping
from sparsesearch.pruning.removal import Sweep, removal_order

# Weights (O, I) and damped second moments (I, I).
System = tuple[torch.Tensor, torch.Tensor]


def obs(group: Group, kept: Sequence[int], options: PrunerConfig) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
    """Structured optimal brain surgeon (ZipLM): remove what adds least output error, refit what stays.

    Args:
        group: the elements and their readers.
        kept: elements kept at each level, all >= 1.
        options: `damp` is λ as a fraction of the mean diagonal of H.

    Returns:
        The elements removed, in order, as many as the smallest level needs; and for each level and reader the weights
        of the kept inputs in ascending order, (O, inputs).
    """
    systems = [damped_system(reader, options.damp) for reader in group.readers]
    sweeps = [Sweep(w, torch.linalg.inv(m), r.index) for (w, m), r in zip(systems, group.readers, strict=True)]
    order = removal_order(sweeps, group.elements - min(kept, default=group.elements))
    return order, refit_levels(group.readers, systems, order, kept)


def refit_levels(
    readers: Sequence[Reader], systems: Sequence[System], order: torch.Tensor, kept: Sequence[int]
) -> list[list[torch.Tensor]]:
    """Return for each level and reader the refit weights of the inputs that remain, (O, kept inputs).

    Args:
        readers: the matrices that read the elements.
        systems: the system of each reader.
        order: elements in order of removal, (removed,).
        kept: elements kept at each level.
    """
    products = [weight @ matrix for weight, matrix in systems]
    return [
        [
            refit(product, matrix, kept_inputs(reader.index, order, count)).to(reader.layer.weight_OI.dtype)
            for product, (_, matrix), reader in zip(products, systems, readers, strict=True)
        ]
        for count in kept
    ]


def refit(product_OI: torch.Tensor, matrix_II: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the least-squares weights of the kept inputs, W_S = (W H)_S H_SS⁻¹, shape (O, kept).

    Args:
        product_OI: product W H of the dense weights and the matrix, (O, I).
        matrix_II: damped second moments H, (I, I).
        columns: the kept inputs S, (kept,).
    """
    solution: torch.Tensor = torch.linalg.solve(matrix_II[columns][:, columns], product_OI[:, columns].T)
    return solution.T.contiguous()


def damped_system(reader: Reader, damp: float) -> System:
    """Return a reader's weights (O, I) and damped second moments (I, I) in float64."""
    matrix, dead = add_damping(reader.layer.inputs.second_moment.double(), damp)
    # Inputs that are always zero get zero weights, so that they are removed first.
    return reader.layer.weight_OI.double().masked_fill(dead, 0.0), matrix
