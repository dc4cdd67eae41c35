"""How well a proxy ranks candidates: Kendall's tau and Spearman's rho with bootstrap intervals."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap, kendalltau, spearmanr

Floats = npt.NDArray[np.float64]
# Below this tau, at equal cost, nothing should be selected by a proxy alone.
TRUSTED = 0.3
CONFIDENCE, RESAMPLES = 0.95, 1000
# Fewest candidates with an interval.
FEW = 8


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
    tau, tau_range = _with_interval(lambda x, y: float(kendalltau(x, y).statistic), scores, values)
    rho, rho_range = _with_interval(lambda x, y: float(spearmanr(x, y).statistic), scores, values)
    return Agreement(proxy, tau, rho, tau_range, rho_range)


def _with_interval(statistic: object, scores: Floats, values: Floats) -> tuple[float, tuple[float, float]]:
    assert callable(statistic)
    whole = statistic(scores, values)
    if len(scores) < FEW:
        return whole, (float("nan"), float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resample in which all are alike has no rank correlation
        found = bootstrap(
            (scores, values), statistic, paired=True, vectorized=False, n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE, method="percentile", rng=0,
        )  # fmt: skip
    interval = found.confidence_interval
    return whole, (float(interval.low), float(interval.high))
