"""Races: candidates measured on the same sequences, a few more at a time, leave once they are clearly not the best.

Differences between two candidates on one sequence vary far less than their losses, so paired tests need few sequences
(F-Race, Birattari et al., 2002, with t tests and Bonferroni's bound instead of ranks).
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtr

from sparsesearch.arrays import Bools, Floats

# With fewer sequences no candidate is dropped.
MIN_SEQUENCES = 4


def losers(losses: Floats, keep: int, confidence: float, tests: int) -> Bools:
    """Return the mask of candidates that are worse than the `keep`-th best, (candidates,).

    Args:
        losses: (candidates, sequences), all finite, paired by sequence.
        keep: least number of candidates that survive.
        confidence: least probability that none of the true `keep` best is lost in the complete race, in [0, 1).
        tests: number of tests of a race; the chance of error is divided among tests and candidates.
    """
    count, sequences = losses.shape
    lost = np.zeros(count, dtype=bool)
    if count <= keep or sequences < MIN_SEQUENCES:
        return lost
    order = np.argsort(losses.mean(axis=1), kind="stable")
    rest = order[keep:]
    difference = losses[rest] - losses[order[keep - 1]]
    error = difference.std(axis=1, ddof=1) / np.sqrt(sequences)
    # The error is 0 for candidates that are equal on every sequence.
    statistic = difference.mean(axis=1) / np.maximum(error, 1e-300)
    level = (1 - confidence) / (tests * (count - keep))
    lost[rest] = (stdtr(sequences - 1, -statistic) < level) & (difference.mean(axis=1) > 0)
    return lost


def rungs(first: int, last: int) -> list[int]:
    """Return the token counts of a race's tests: doubling from `first`, ending at `last`."""
    counts = [first]
    while counts[-1] * 2 < last:
        counts.append(counts[-1] * 2)
    return counts if counts[-1] >= last else [*counts, last]
