"""Measure what allocation rules read, from weights, second moments and gradients.

Tables are thinned so that global rankings never hold all weights of a large model. Weights may lie on any device and in
any type; arithmetic is in float32 for tables and scores, float64 where sums or small differences matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sparsesearch.arrays import Floats

ENTRIES = 4096


def thinned(descending: torch.Tensor, entries: int = ENTRIES) -> Floats:
    """At most `entries` of descending values (d,), each from the middle of its run of d / entries; all where d fits."""
    size = len(descending)
    count = min(size, entries)
    middle = (2 * torch.arange(count, device=descending.device) + 1) * size // (2 * count)
    table: Floats = descending[middle].double().cpu().numpy()
    return table


def magnitudes(weight: torch.Tensor, entries: int = ENTRIES) -> Floats:
    """|w| of a weight of any shape in descending order, thinned."""
    return thinned(weight.float().abs().flatten().sort(descending=True).values, entries)


def lamp_thresholds(weight: torch.Tensor, entries: int = ENTRIES) -> Floats:
    """LAMP scores (Lee et al., 2021) of a weight of any shape in descending order, thinned, in [0, 1].

    A weight's square is divided by the sum of the squares at and before it in the sorted order, so that of equal
    largest weights one still scores 1. Weights of zero score 0.
    """
    squares = weight.float().abs().flatten().sort(descending=True).values.double().square()
    return thinned(squares / squares.cumsum(dim=0).clamp_min(torch.finfo(torch.float64).tiny), entries)


def outliers(weights: Sequence[torch.Tensor], squares: Sequence[torch.Tensor], multiple: float = 5.0) -> Floats:
    """For each matrix of one block, the share of Wanda scores |w| √E[x²] above `multiple` times their mean (OWL).

    Args:
        weights: the block's matrices, (..., O, I).
        squares: E[x²] of their inputs, the diagonals of the second moments, (..., I).
        multiple: of the mean over the whole block; the paper sweeps 3 to 10.

    Returns:
        Shares, (matrices,), in [0, 1].
    """
    scores = [w.float().abs() * s.float().sqrt().unsqueeze(-2) for w, s in zip(weights, squares, strict=True)]
    total = sum(float(score.double().sum()) for score in scores)
    threshold = multiple * total / sum(score.numel() for score in scores)
    return np.array([float((score > threshold).double().mean()) for score in scores])


def tail_exponent(weight_OI: torch.Tensor) -> float:
    """Hill estimate 1 + n / Σ ln(λ / λ_min) of the power law of the eigenvalues λ of WᵀW (AlphaPruning), > 1.

    λ_min is the median of the nonzero eigenvalues and n counts those from it upwards. The paper also takes λ_min at the
    peak of the spectrum's density or where the Kolmogorov-Smirnov distance to a power law is smallest; these fit
    better-shaped tails more closely, the median needs no bins and no search.
    """
    singular = torch.linalg.svdvals(weight_OI.double())
    nonzero = singular[singular > singular.max() * 1e-7]
    eigenvalues = nonzero.square().sort().values
    tail = eigenvalues[len(eigenvalues) // 2 :]
    # Equal eigenvalues have no tail: the exponent is large, not infinite.
    return 1 + len(tail) / max(float((tail / tail[:1]).log().sum()), 1e-6)


def pq(weight: torch.Tensor, p: float = 0.5, q: float = 1.0) -> float:
    """PQ index 1 - (mean |w|ᵖ)^(1/p) / (mean |w|^q)^(1/q) of a weight of any shape, 0 < p < q; in [0, 1].

    0 where all |w| are equal, towards 1 for sparser weights, 1 where all are zero (Diao et al., 2023).
    """
    size = weight.double().abs()
    if not size.any():
        return 1.0
    size = size / size.max()
    return max(0.0, 1 - float(size.pow(p).mean() ** (1 / p) / size.pow(q).mean() ** (1 / q)))


def gradient_square(weight: torch.Tensor, squared_gradient: torch.Tensor) -> float:
    """Σ w² E[g²] of a weight and its mean squared gradient over calibration samples, of equal shape; >= 0."""
    return float((weight.double().square() * squared_gradient.double()).sum())
