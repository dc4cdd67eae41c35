"""Meet a budget exactly: by one shift, by one factor, or by one threshold. All functions are pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import bisect

from sparsesearch.arrays import Floats, Ints

# Weights by which a total may be off; far above float64 rounding, far below one weight.
TOLERANCE = 0.01


def project(
    density: Floats, sizes: Ints, sparsity: float, low: float | Floats = 0.0, high: float | Floats = 1.0
) -> Floats:
    """clip(density + t, low, high) with the shift t that keeps (1 - sparsity) of all weights.

    The total is exact to `TOLERANCE` weights. What already meets the budget and the bounds comes back unchanged, so
    the projection is idempotent; with scalar bounds it preserves the order of densities.

    Args:
        density: wanted, any finite values, (M,).
        sizes: weights of each matrix, (M,).
        sparsity: share of all weights removed, in [0, 1].
        low, high: bounds on densities, scalars or (M,).

    Returns:
        Densities, (M,), in [low, high]. Raises ValueError where the bounds exclude the budget.
    """
    budget = (1 - sparsity) * sizes.sum()

    def excess(shift: float) -> float:
        return float(sizes @ np.clip(density + shift, low, high) - budget)

    least, most = excess(-np.inf), excess(np.inf)
    if least > TOLERANCE or most < -TOLERANCE:
        raise ValueError(f"no densities in [{low}, {high}] have sparsity {sparsity}")
    if abs(excess(0.0)) <= TOLERANCE and ((low <= density) & (density <= high)).all():
        return density.copy()
    if most <= TOLERANCE:
        return np.clip(density + np.inf, low, high)
    if least >= -TOLERANCE:
        return np.clip(density - np.inf, low, high)
    shift = float(bisect(excess, (low - density).min(), (high - density).max(), xtol=1e-15))
    return np.clip(density + shift, low, high)


def proportional(raw: Floats, sizes: Ints, mean: float, low: float = 0.0, high: float = 1.0) -> Floats:
    """min(low + c raw, high) with the factor c that makes the mean over all weights `mean`.

    What would exceed `high` is set to it and c is solved again for the rest, until nothing exceeds it. Where only
    zeros of `raw` are left to scale, they rise together.

    Args:
        raw: (M,), >= 0.
        sizes: weights of each matrix, (M,).
        mean: of the shares, weighted by size, in [low, high].

    Returns:
        Shares, (M,), in [low, high], exact as those of `project`.
    """
    share, full = np.full(len(raw), low), np.zeros(len(raw), dtype=bool)
    while (scaled := float(sizes[~full] @ raw[~full])) > 0:
        room = mean * sizes.sum() - high * sizes[full].sum() - low * sizes[~full].sum()
        # Divided before it is multiplied: what is left to scale may be tiny.
        wanted = np.where(full, high, low + room * (np.where(full, 0.0, raw) / scaled))
        share = np.minimum(wanted, high)
        if not (wanted > high).any():
            break
        full |= wanted > high
    return project(share, sizes, 1 - mean, low, high)


def top_share(scores: Sequence[Floats], sizes: Ints, sparsity: float, floor: Floats) -> Floats:
    """Densities of one global top-k over the scores of all matrices; exact where scores hold every weight.

    Args:
        scores: for each matrix in descending order; entry j stands for the j-th of equally many weights each.
        sizes: weights of each matrix, (M,).
        sparsity: share of all weights removed, in [0, 1].
        floor: share that each matrix keeps of its own highest scores before they compete, (M,); together these must
            not exceed the budget.

    Returns:
        Densities, (M,), in [floor, 1]. Equal scores fall to the earlier matrix.
    """
    entries = np.array([len(s) for s in scores])
    matrix = np.repeat(np.arange(len(scores)), entries)
    rank = np.concatenate([np.arange(n) for n in entries])
    weights = (sizes / entries)[matrix]
    safe = np.clip((floor * sizes)[matrix] - rank * weights, 0, weights)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    rivals = (weights - safe)[order]
    room = (1 - sparsity) * sizes.sum() - safe.sum()
    won = np.clip(room - (np.cumsum(rivals) - rivals), 0, rivals)
    kept = np.bincount(matrix, safe) + np.bincount(matrix[order], won)
    return np.minimum(kept / sizes, 1.0)
