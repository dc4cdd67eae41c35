"""Damped inverses of second-moment matrices, always in float32 or better."""

from __future__ import annotations

import torch

from sparsesearch.errors import problem


def damped(second_moment_II: torch.Tensor, damp: float) -> tuple[torch.Tensor, torch.Tensor]:
    """H + λI with λ = damp * mean diagonal, and which inputs never fire.

    Dead inputs get a unit diagonal, so that they neither make H singular nor touch other inputs.
    """
    matrix = second_moment_II.clone()
    dead = matrix.diagonal() <= 0
    matrix.diagonal()[dead] = 1.0
    matrix.diagonal().add_(damp * second_moment_II.diagonal().mean())
    return matrix, dead


def inverse_cholesky(second_moment_II: torch.Tensor, damp: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Upper Cholesky factor U of the damped inverse (Uᵀ U = H⁻¹) and the dead inputs.

    Damping rises tenfold, up to three times, where H is not numerically positive definite; raises InputError SS208.
    """
    for attempt in range(4):
        matrix, dead = damped(second_moment_II, damp * 10**attempt)
        lower, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            continue
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed:
            return upper, dead
    raise problem(
        "SS208",
        f"second moments of {len(second_moment_II)} inputs are not positive definite, even damped.",
        fix="Are the model's activations finite? Otherwise give more calibration text.",
    )
