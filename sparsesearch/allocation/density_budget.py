"""Densities that meet a budget exactly: by one shift, by one factor, or by one threshold. All functions are pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import bisect

from sparsesearch.arrays import Floats, Ints

# Allowed error of a total, in weights; far above float64 rounding, far below one weight.
TOLERANCE = 0.01


def project(
    density: Floats, sizes: Ints, sparsity: float, low: float | Floats = 0.0, high: float | Floats = 1.0
) -> Floats:
    """Return clip(density + t, low, high) with the shift t that keeps (1 - sparsity) of all weights.

    The total is exact to `TOLERANCE` weights. Densities that already meet the budget and the bounds are returned
    unchanged, so the projection is idempotent; with scalar bounds it preserves the order of densities.

    Args:
        density: densities to project, any finite values, (M,).
        sizes: weights of each matrix, (M,).
        sparsity: share of all weights removed, in [0, 1].
        low, high: bounds on densities, scalars or (M,).

    Returns:
        Densities, (M,), in [low, high]. Raises ValueError if the bounds exclude the budget.
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


def proportional_shares(raw: Floats, sizes: Ints, mean: float, low: float = 0.0, high: float = 1.0) -> Floats:
    """Return min(low + c raw, high) with the factor c that makes the mean over all weights `mean`.

    Shares that would exceed `high` are set to it and c is solved again for the rest, until none exceeds it. If only
    zeros of `raw` are left to scale, they rise by the same amount.

    Args:
        raw: shares up to the factor, (M,), >= 0.
        sizes: weights of each matrix, (M,).
        mean: mean of the shares weighted by size, in [low, high].
        low, high: bounds on shares.

    Returns:
        Shares, (M,), in [low, high], exact to `TOLERANCE` weights.
    """
    share, full = np.full(len(raw), low), np.zeros(len(raw), dtype=bool)
    while (scaled := float(sizes[~full] @ raw[~full])) > 0:
        room = mean * sizes.sum() - high * sizes[full].sum() - low * sizes[~full].sum()
        # Divided before it is multiplied, since `scaled` may be tiny.
        unclipped = np.where(full, high, low + room * (np.where(full, 0.0, raw) / scaled))
        share = np.minimum(unclipped, high)
        if not (unclipped > high).any():
            break
        full |= unclipped > high
    return project(share, sizes, 1 - mean, low, high)


def global_top_k(scores: Sequence[Floats], sizes: Ints, sparsity: float, floor: Floats) -> Floats:
    """Return the densities of one global top-k over the scores of all matrices; exact if scores hold every weight.

    Args:
        scores: for each matrix in descending order, (entries,); every entry stands for equally many weights.
        sizes: weights of each matrix, (M,).
        sparsity: share of all weights removed, in [0, 1].
        floor: share of its highest scores that each matrix keeps before the rest compete, (M,); the sum over matrices
            must not exceed the budget.

    Returns:
        Densities, (M,), in [floor, 1]. Of equal scores, those of the earlier matrix are kept first.
    """
    entries = np.array([len(s) for s in scores])
    matrix = np.repeat(np.arange(len(scores)), entries)
    rank = np.concatenate([np.arange(n) for n in entries])
    weights = (sizes / entries)[matrix]
    guaranteed = np.clip((floor * sizes)[matrix] - rank * weights, 0, weights)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    competing = (weights - guaranteed)[order]
    room = (1 - sparsity) * sizes.sum() - guaranteed.sum()
    selected = np.clip(room - (np.cumsum(competing) - competing), 0, competing)
    kept = np.bincount(matrix, guaranteed) + np.bincount(matrix[order], selected)
    return np.minimum(kept / sizes, 1.0)
