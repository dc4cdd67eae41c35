"""Sparse model soups: averages of networks that were trained from one parent and share its masks.

Zimmer et al., 2024 (arXiv 2306.16788): zeros average to zeros, so that a soup is as sparse as its ingredients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

State = dict[str, torch.Tensor]


def averaged(states: Sequence[State]) -> State:
    """The mean of states of equal names and shapes; tensors that are no floats are the first one's.

    Summed in float64, so that identical copies give themselves.
    """
    first = states[0]
    means = {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(tensor.dtype)
        for name, tensor in first.items()
        if tensor.is_floating_point()
    }
    return first | means


def greedy_soup(states: Sequence[State], quality: Callable[[State], float]) -> tuple[State, list[int]]:
    """Ingredients added from the best on, for as long as the average gets no worse (Wortsman et al., 2022).

    Args:
        quality: of a state on validation data, lower is better.

    Returns:
        The soup, never worse than the best single one, and the positions of its ingredients.
    """
    alone = [quality(state) for state in states]
    order = sorted(range(len(states)), key=alone.__getitem__)
    chosen, best = order[:1], alone[order[0]]
    for index in order[1:]:
        value = quality(averaged([states[i] for i in (*chosen, index)]))
        if value <= best:
            chosen, best = [*chosen, index], value
    return averaged([states[i] for i in chosen]), chosen
