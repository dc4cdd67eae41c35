"""Races: candidates measured on the same sequences, a few more at a time, until it is clear who is not among the best.

Differences between two candidates on one sequence vary far less than their losses, so paired tests need few sequences
(F-Race, Birattari et al., 2002, with t tests and Bonferroni's bound in place of ranks).
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtr

from sparsesearch.arrays import Bools, Floats

# Sequences below which no verdict is given.
FEWEST = 4


def losers(losses: Floats, keep: int, confidence: float, looks: int) -> Bools:
    """Which candidates are worse than the `keep`-th best.

    Args:
        losses: (candidates, sequences), all finite, paired by sequence.
        keep: how many should survive; at least that many do.
        confidence: that none of the true `keep` best is lost in the whole race.
        looks: how often the race is looked at; the chance of error is divided among looks and candidates.

    Returns:
        Bool, (candidates,).
    """
    count, sequences = losses.shape
    found = np.zeros(count, dtype=bool)
    if count <= keep or sequences < FEWEST:
        return found
    order = np.argsort(losses.mean(axis=1), kind="stable")
    behind = order[keep:]
    difference = losses[behind] - losses[order[keep - 1]]
    error = difference.std(axis=1, ddof=1) / np.sqrt(sequences)
    # Equal on every sequence: no worse.
    statistic = difference.mean(axis=1) / np.maximum(error, 1e-300)
    level = (1 - confidence) / (looks * (count - keep))
    found[behind] = (stdtr(sequences - 1, -statistic) < level) & (difference.mean(axis=1) > 0)
    return found


def rungs(first: int, last: int) -> list[int]:
    """Token counts at which a race is looked at: doubling from `first`, ending at `last`."""
    found = [first]
    while found[-1] * 2 < last:
        found.append(found[-1] * 2)
    return found if found[-1] >= last else [*found, last]
