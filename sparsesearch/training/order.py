"""In which order samples are seen: the same for all rivals, and known at every step, so that training can go on."""

from __future__ import annotations

import numpy as np

from sparsesearch.arrays import Ints


def rows_at(step: int, batch: int, count: int, seed: int) -> Ints:
    """Samples of a step, (batch,): passes over all samples follow one another, each in an order of its own."""
    places = np.arange(step * batch, (step + 1) * batch)
    orders = {e: np.random.default_rng([seed, e]).permutation(count) for e in set((places // count).tolist())}
    return np.array([orders[place // count][place % count] for place in places.tolist()], dtype=np.int64)
