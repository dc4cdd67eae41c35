"""Damped inverses of second-moment matrices, always in float32 or better."""

from __future__ import annotations

import torch

from sparsesearch.errors import problem


def add_damping(second_moment_II: torch.Tensor, damp: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return H + λI, (I, I), with λ = damp * mean diagonal, and the mask of dead inputs, which are always zero, (I,).

    Dead inputs get a unit diagonal, so that they neither make H singular nor affect other inputs.
    """
    matrix = second_moment_II.clone()
    dead = matrix.diagonal() <= 0
    matrix.diagonal()[dead] = 1.0
    matrix.diagonal().add_(damp * second_moment_II.diagonal().mean())
    return matrix, dead


def inverse_cholesky(second_moment_II: torch.Tensor, damp: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the upper Cholesky factor U, (I, I), of the damped inverse (Uᵀ U = H⁻¹), and the mask of dead inputs.

    While H is not numerically positive definite, damping rises tenfold, up to three times; then raises InputError
    SS208.
    """
    for attempt in range(4):
        matrix, dead = add_damping(second_moment_II, damp * 10**attempt)
        lower, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            continue
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed:
            return upper, dead
    raise problem(
        "SS208",
        f"second moments of {len(second_moment_II)} inputs are not positive definite, even damped.",
        fix="Check that the model's activations are finite, or give more calibration text.",
    )
