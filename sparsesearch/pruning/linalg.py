"""Damped inverses of second-moment matrices, always in float32 or better."""

from __future__ import annotations

from typing import NamedTuple

import torch

from sparsesearch.calibration import InputStatistics
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


# Triangles up to this size are inverted as a whole.
SMALL_TRIANGLE = 256


class InverseFactor(NamedTuple):
    """The upper Cholesky factor of the inverse of damped second moments.

    Attributes:
        upper: factor U, (I, I), of (H + λI)⁻¹ = Uᵀ U.
        dead: mask of inputs that are always zero, (I,).
        damping: λ, a scalar.
    """

    upper: torch.Tensor
    dead: torch.Tensor
    damping: torch.Tensor


def shared_inverse_cholesky(inputs: InputStatistics, damp: float) -> InverseFactor:
    """Return `inverse_cholesky` of inputs, computed once for all matrices that read them."""
    if damp not in inputs.factors:
        inputs.factors[damp] = inverse_cholesky(inputs.second_moment, damp)
    factor: InverseFactor = inputs.factors[damp]
    return factor


def inverse_cholesky(second_moment_II: torch.Tensor, damp: float) -> InverseFactor:
    """Return the Cholesky factor of the inverse of damped second moments (I, I).

    While H is not numerically positive definite, damping rises tenfold, up to three times; then raises InputError
    SS208.
    """
    for attempt in range(4):
        share = damp * 10**attempt
        matrix, dead = add_damping(second_moment_II, share)
        # In reversed order the lower factor becomes an upper one, R, of H = R Rᵀ; its inverse is U.
        lower, failed = torch.linalg.cholesky_ex(matrix.flip(0, 1))
        if not failed:
            upper = _inverse_of_upper(lower.flip(0, 1))
            return InverseFactor(upper, dead, share * second_moment_II.diagonal().mean())
    raise problem(
        "SS208",
        f"second moments of {len(second_moment_II)} inputs are not positive definite, even damped.",
        fix="Check that the model's activations are finite, or give more calibration text.",
    )


def _inverse_of_upper(upper_II: torch.Tensor) -> torch.Tensor:
    """Return the inverse of an upper triangular matrix, by halves, so that nearly all work is matrix products."""
    size = len(upper_II)
    if size <= SMALL_TRIANGLE:
        identity = torch.eye(size, dtype=upper_II.dtype, device=upper_II.device)
        solution: torch.Tensor = torch.linalg.solve_triangular(upper_II, identity, upper=True)
        return solution
    half = size // 2
    first, last = (_inverse_of_upper(part) for part in (upper_II[:half, :half], upper_II[half:, half:]))
    inverse = torch.zeros_like(upper_II)
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[:half, half:] = -first @ (upper_II[:half, half:] @ last)
    return inverse
