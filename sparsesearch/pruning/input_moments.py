"""Norms and variances of a matrix's inputs."""

from __future__ import annotations

import torch

from sparsesearch.calibration import InputStatistics


def norm(inputs: InputStatistics) -> torch.Tensor:
    """sqrt(E[x²]) of each input, shape (I,): ‖X_j‖₂ whatever the number of tokens."""
    return inputs.second_moment.diagonal().clamp_min(0).sqrt()


def variance(inputs: InputStatistics) -> torch.Tensor:
    """Var(x) = E[x²] - E[x]² of each input, shape (I,), >= 0."""
    return (inputs.second_moment.diagonal() - inputs.mean.square()).clamp_min(0)
