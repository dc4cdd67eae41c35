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
    levels = []
    for count in kept:
        level = []
        for (weight, matrix), reader in zip(systems, readers, strict=True):
            columns = kept_inputs(reader.index, order, count)
            level.append(refit(weight, matrix, columns).to(reader.layer.weight_OI.dtype))
        levels.append(level)
    return levels


def refit(weight_OI: torch.Tensor, matrix_II: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the least-squares weights of the kept inputs, W_S = (W H)_S H_SS⁻¹, shape (O, kept).

    Args:
        weight_OI: dense weights W, (O, I).
        matrix_II: damped second moments H, (I, I).
        columns: the kept inputs S, (kept,).
    """
    damped_system, product = matrix_II[columns][:, columns], (weight_OI @ matrix_II)[:, columns]
    solution: torch.Tensor = torch.linalg.solve(damped_system, product.T)
    return solution.T.contiguous()


def damped_system(reader: Reader, damp: float) -> System:
    """Return a reader's weights (O, I) and damped second moments (I, I) in float64."""
    matrix, dead = add_damping(reader.layer.inputs.second_moment.double(), damp)
    # Inputs that are always zero get zero weights, so that they are removed first.
    return reader.layer.weight_OI.double().masked_fill(dead, 0.0), matrix


class Sweep:
    """One reader's weights and inverse second moments, updated exactly while elements are removed."""

    def __init__(self, weight_OI: torch.Tensor, inverse_II: torch.Tensor, index_ES: torch.Tensor) -> None:
        self.weight, self.inverse, self.index = weight_OI.clone(), inverse_II.clone(), index_ES.to(weight_OI.device)

    def costs(self, present: torch.Tensor) -> torch.Tensor:
        """Return the squared output error that removing each element alone adds, shape (E,).

        Args:
            present: mask of the elements not removed so far, (E,); costs of the others have no meaning.
        """
        if self.index.shape[1] == 1:
            columns = self.index[:, 0]
            return self.weight.square().sum(dim=0)[columns] / self.inverse.diagonal()[columns]
        blocks = self.inverse[self.index[:, :, None], self.index[:, None, :]]
        blocks[~present] = torch.eye(self.index.shape[1], dtype=blocks.dtype, device=blocks.device)
        grouped = self.weight[:, self.index].permute(1, 2, 0)  # (E, span, O)
        costs: torch.Tensor = (torch.linalg.solve(blocks, grouped) * grouped).sum(dim=(1, 2))
        return costs

    def remove(self, element: int) -> None:
        """Remove an element's inputs and update all other weights."""
        columns = self.index[element]
        gain = torch.linalg.solve(self.inverse[columns][:, columns], self.inverse[columns])  # (span, I)
        self.weight -= self.weight[:, columns] @ gain
        self.inverse -= self.inverse[:, columns] @ gain
        self.weight[:, columns] = 0.0


def removal_order(sweeps: Sequence[Sweep], remove: int) -> torch.Tensor:
    """Return the first `remove` elements in order of removal, cheapest over all readers first, (remove,)."""
    present = torch.ones(len(sweeps[0].index), dtype=torch.bool, device=sweeps[0].weight.device)
    order = []
    for _ in range(remove):
        costs = torch.stack([sweep.costs(present) for sweep in sweeps]).sum(dim=0)
        cheapest = int(costs.masked_fill(~present, torch.inf).argmin())
        for sweep in sweeps:
            sweep.remove(cheapest)
        present[cheapest] = False
        order.append(cheapest)
    return torch.tensor(order, dtype=torch.int64)
