"""CFSP's fine criterion (Wang et al., 2024, arXiv 2409.13199): an element's share of the weights times its activity."""

from __future__ import annotations

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.input_moments import norm
from sparsesearch.pruning.layer import Group


def cfsp(group: Group, options: PrunerConfig) -> torch.Tensor:
    """CFSP: remove elements by their mean share of the weights of each output and input, times ‖x‖.

    For a neuron j of a gated feed-forward layer, mean_i [|Wd_ij| ‖x_j‖ / Σ_j |Wd_ij| ‖x_j‖ + |Wu_ji| / Σ_j |Wu_ji|
    + |Wg_ji| / Σ_j |Wg_ji|] ‖x_j‖. An element of several inputs sums their shares and takes the L2 norm of them all.
    """
    shares, squares = [], []
    for reader in group.readers:
        size_OI = reader.layer.weight_OI.abs() * norm(reader.layer.inputs)
        shares.append(reader.by_element(_share(size_OI, dim=1).mean(dim=0)))
        squares.append(reader.by_element(norm(reader.layer.inputs).square()))
    shares += [_share(writer.weight.abs().sum(dim=1), dim=0).mean(dim=1) for writer in group.writers]
    return torch.stack(shares).sum(dim=0) * torch.stack(squares).sum(dim=0).sqrt()


def _share(size: torch.Tensor, dim: int) -> torch.Tensor:
    """Return shares of the sum along a dimension; zero if the sum is zero."""
    return size / size.sum(dim=dim, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
