"""Agreement of a proxy's ranking with measurements: Kendall's tau and Spearman's rho with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, rankdata

from sparsesearch.arrays import Floats

# A proxy with a lower tau among candidates of equal cost should not select candidates alone.
MIN_TAU = 0.3
CONFIDENCE, RESAMPLES = 0.95, 1000
# Fewer candidates get no interval.
MIN_CANDIDATES = 8
# Pairs of candidates that are compared at once, which bounds memory.
PAIRS_PER_BATCH = 4_000_000


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of a proxy's scores with measured values; nan if they cannot be compared.

    Attributes:
        tau, rho: Kendall's tau-b and Spearman's rho in [-1, 1]; 1 for equal rankings.
        tau_range, rho_range: their 95 % bootstrap intervals over candidates.
        note: the reason for a nan.
    """

    proxy: str
    tau: float
    rho: float
    tau_range: tuple[float, float]
    rho_range: tuple[float, float]
    note: str = ""


def agreement(proxy: str, scores: Floats, values: Floats) -> Agreement:
    """Return the agreement of a proxy's scores with values of the same candidates, (candidates,) each.

    It is nan if a score is not finite.
    """
    nans = (float("nan"), float("nan"))
    if not len(values):
        return Agreement(proxy, *nans, nans, nans, "no candidate has a value")
    not_finite = int((~np.isfinite(scores)).sum())
    if not_finite:
        return Agreement(proxy, *nans, nans, nans, f"no finite score for {not_finite} of {len(scores)}")
    if np.ptp(scores) == 0 or np.ptp(values) == 0:
        return Agreement(proxy, *nans, nans, nans, "all candidates alike")
    tau, rho = float(kendall(scores, values)), float(spearman(scores, values))
    return Agreement(proxy, tau, rho, _interval(kendall, scores, values), _interval(spearman, scores, values))


def kendall(scores: Floats, values: Floats, axis: int = -1) -> Floats:
    """Return Kendall's tau-b along the last axis, (..., candidates) -> (...); nan if all tie."""
    signs = [np.sign(x[..., :, None] - x[..., None, :]) for x in (scores, values)]
    agreeing: Floats = (signs[0] * signs[1]).sum((-2, -1))
    untied: Floats = np.sqrt(np.prod([np.abs(sign).sum((-2, -1)) for sign in signs], axis=0))
    return agreeing / untied


def spearman(scores: Floats, values: Floats, axis: int = -1) -> Floats:
    """Return Spearman's rho along the last axis, (..., candidates) -> (...); nan if all tie."""
    ranks = [rankdata(x, axis=-1) for x in (scores, values)]
    centred = [rank - rank.mean(-1, keepdims=True) for rank in ranks]
    norms: Floats = np.sqrt(np.prod([(c**2).sum(-1) for c in centred], axis=0))
    return np.asarray((centred[0] * centred[1]).sum(-1) / norms)


def _interval(statistic: Callable[..., Floats], scores: Floats, values: Floats) -> tuple[float, float]:
    if len(scores) < MIN_CANDIDATES:
        return float("nan"), float("nan")
    with np.errstate(invalid="ignore"):  # a resample of equal values has no rank correlation
        result = bootstrap(
            (scores, values),
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            axis=-1,
            batch=max(PAIRS_PER_BATCH // len(scores) ** 2, 1),
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=0,
        )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high)
