"""Norms and variances of a matrix's inputs."""

from __future__ import annotations

import torch

from sparsesearch.calibration import InputStatistics


def norm(inputs: InputStatistics) -> torch.Tensor:
    """Return sqrt(E[x²]) of each input, shape (I,): ‖X_j‖₂ / √tokens."""
    return inputs.second_moment.diagonal().clamp_min(0).sqrt()


def variance(inputs: InputStatistics) -> torch.Tensor:
    """Return Var(x) = E[x²] - E[x]² of each input, shape (I,), >= 0."""
    return (inputs.second_moment.diagonal() - inputs.mean.square()).clamp_min(0)
