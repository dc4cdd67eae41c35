"""The measurements that allocation rules read, from weights, second moments and gradients.

Tables are thinned so that global rankings never hold all weights of a large model. Weights may be on any device and of
any type; arithmetic is in float32 for tables and scores, in float64 for sums and small differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sparsesearch.arrays import Floats

MAX_TABLE_ENTRIES = 4096


def thin(descending: torch.Tensor, entries: int = MAX_TABLE_ENTRIES) -> Floats:
    """Return at most `entries` of d descending values, (d,) -> (min(d, entries),), each the middle of an equal run."""
    size = len(descending)
    count = min(size, entries)
    middle = (2 * torch.arange(count, device=descending.device) + 1) * size // (2 * count)
    return np.asarray(descending[middle].double().cpu().numpy())


def magnitudes(weight: torch.Tensor, entries: int = MAX_TABLE_ENTRIES) -> Floats:
    """Return |w| of a weight of any shape in descending order, thinned to at most (entries,)."""
    return thin(weight.float().abs().flatten().sort(descending=True).values, entries)


def lamp_thresholds(weight: torch.Tensor, entries: int = MAX_TABLE_ENTRIES) -> Floats:
    """Return LAMP scores (Lee et al., 2021) of a weight of any shape in descending order, in [0, 1], thinned.

    A weight's square is divided by the sum of the squares at and before it in the sorted order, so that of equal
    largest weights one still scores 1. Weights of zero score 0.
    """
    squares = weight.float().abs().flatten().sort(descending=True).values.double().square()
    return thin(squares / squares.cumsum(dim=0).clamp_min(torch.finfo(torch.float64).tiny), entries)


def outliers(weights: Sequence[torch.Tensor], squares: Sequence[torch.Tensor], multiple: float = 5.0) -> Floats:
    """Return for each matrix of one block the share of Wanda scores |w| √E[x²] above `multiple` times their mean (OWL).

    Args:
        weights: the block's matrices, (..., O, I).
        squares: E[x²] of their inputs, the diagonals of the second moments, (..., I).
        multiple: threshold in units of the mean over the whole block; the paper sweeps 3 to 10.

    Returns:
        Shares, (matrices,), in [0, 1].
    """
    scores = [w.float().abs() * s.float().sqrt().unsqueeze(-2) for w, s in zip(weights, squares, strict=True)]
    total = sum(float(score.double().sum()) for score in scores)
    threshold = multiple * total / sum(score.numel() for score in scores)
    return np.array([float((score > threshold).double().mean()) for score in scores])


def tail_exponent(weight_OI: torch.Tensor) -> float:
    """Return the Hill estimate 1 + n / Σ ln(λ / λ_min) of the power law of the eigenvalues λ of WᵀW, > 1.

    λ_min is the median of the nonzero eigenvalues and n counts those from it upwards. AlphaPruning also takes λ_min at
    the peak of the spectrum's density, or at the smallest Kolmogorov-Smirnov distance to a power law; these fit the
    tails of some spectra more closely, but need bins or a search.

    Args:
        weight_OI: a matrix, (O, I).
    """
    singular = torch.linalg.svdvals(weight_OI.double())
    nonzero = singular[singular > singular.max() * 1e-7]
    eigenvalues = nonzero.square().sort().values
    tail = eigenvalues[len(eigenvalues) // 2 :]
    # Equal eigenvalues have no tail; the floor keeps the exponent finite.
    return 1 + len(tail) / max(float((tail / tail[:1]).log().sum()), 1e-6)


def pq(weight: torch.Tensor, p: float = 0.5, q: float = 1.0) -> float:
    """Return the PQ index 1 - (mean |w|ᵖ)^(1/p) / (mean |w|^q)^(1/q) of a weight of any shape, 0 < p < q; in [0, 1].

    0 if all |w| are equal, towards 1 for sparser weights, 1 if all are zero (Diao et al., 2023).
    """
    size = weight.double().abs()
    if not size.any():
        return 1.0
    size = size / size.max()
    return max(0.0, 1 - float(size.pow(p).mean() ** (1 / p) / size.pow(q).mean() ** (1 / q)))


def gradient_square(weight: torch.Tensor, squared_gradient: torch.Tensor) -> float:
    """Return Σ w² E[g²] of a weight and its mean squared gradient over calibration samples, of equal shape; >= 0."""
    return float((weight.double().square() * squared_gradient.double()).sum())
