"""How well a proxy ranks candidates: Kendall's tau and Spearman's rho with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, rankdata

from sparsesearch.arrays import Floats

# Below this tau, at equal cost, nothing should be selected by a proxy alone.
TRUSTED = 0.3
CONFIDENCE, RESAMPLES = 0.95, 1000
# Fewest candidates with an interval, and pairs of candidates that are compared at once.
FEW, PAIRS = 8, 4_000_000


@dataclass(frozen=True)
class Agreement:
    """How a proxy's scores agree with measured values; nan where they cannot be compared.

    Attributes:
        tau, rho: Kendall's tau-b and Spearman's rho in [-1, 1]; 1 where both rank alike.
        tau_range, rho_range: their 95 % bootstrap intervals over candidates.
        note: why there is no number.
    """

    proxy: str
    tau: float
    rho: float
    tau_range: tuple[float, float]
    rho_range: tuple[float, float]
    note: str = ""


def agreement(proxy: str, scores: Floats, values: Floats) -> Agreement:
    """Of scores and values of the same candidates, (candidates,); a proxy with a score that is no number has none."""
    nothing = (float("nan"), float("nan"))
    if not len(values):
        return Agreement(proxy, *nothing, nothing, nothing, "no candidate has a value")
    broken = int((~np.isfinite(scores)).sum())
    if broken:
        return Agreement(proxy, *nothing, nothing, nothing, f"no finite score for {broken} of {len(scores)}")
    if np.ptp(scores) == 0 or np.ptp(values) == 0:
        return Agreement(proxy, *nothing, nothing, nothing, "all candidates alike")
    tau, rho = float(kendall(scores, values)), float(spearman(scores, values))
    return Agreement(proxy, tau, rho, _interval(kendall, scores, values), _interval(spearman, scores, values))


def kendall(scores: Floats, values: Floats, axis: int = -1) -> Floats:
    """Kendall's tau-b along the last axis, of as many resamples at once as the other axes hold; nan where all tie."""
    signs = [np.sign(x[..., :, None] - x[..., None, :]) for x in (scores, values)]
    agreeing: Floats = (signs[0] * signs[1]).sum((-2, -1))
    untied: Floats = np.sqrt(np.prod([np.abs(sign).sum((-2, -1)) for sign in signs], axis=0))
    return agreeing / untied


def spearman(scores: Floats, values: Floats, axis: int = -1) -> Floats:
    """Spearman's rho along the last axis; nan where all tie."""
    ranks = [rankdata(x, axis=-1) for x in (scores, values)]
    centred = [rank - rank.mean(-1, keepdims=True) for rank in ranks]
    found: Floats = (centred[0] * centred[1]).sum(-1) / np.sqrt(np.prod([(c**2).sum(-1) for c in centred], axis=0))
    return found


def _interval(statistic: Callable[..., Floats], scores: Floats, values: Floats) -> tuple[float, float]:
    if len(scores) < FEW:
        return float("nan"), float("nan")
    with np.errstate(invalid="ignore"):  # a resample in which all are alike has no rank correlation
        found = bootstrap(
            (scores, values),
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            axis=-1,
            batch=max(PAIRS // len(scores) ** 2, 1),
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=0,
        )
    interval = found.confidence_interval
    return float(interval.low), float(interval.high)
