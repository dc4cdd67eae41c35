"""The order of training samples: the same for all networks that are compared, and known at any step for resuming."""

from __future__ import annotations

import numpy as np

from sparsesearch.arrays import Ints


def rows_at(step: int, batch: int, count: int, seed: int) -> Ints:
    """Return the rows of samples for a step, (batch,) int64: passes over all `count` samples, each in its own order."""
    places = np.arange(step * batch, (step + 1) * batch)
    orders = {e: np.random.default_rng([seed, e]).permutation(count) for e in set((places // count).tolist())}
    return np.array([orders[place // count][place % count] for place in places.tolist()], dtype=np.int64)
