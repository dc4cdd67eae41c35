"""Sparse model soups: averages of networks that were trained from one parent and share its masks.

Zimmer et al., 2024 (arXiv 2306.16788): zeros average to zero, so a soup is as sparse as its ingredients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

State = dict[str, torch.Tensor]


def average(states: Sequence[State]) -> State:
    """Return the mean of states with equal names and shapes; tensors that are not floats are taken from the first.

    Sums are taken in float64, so the mean of identical copies is equal to them.
    """
    first = states[0]
    means = {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(tensor.dtype)
        for name, tensor in first.items()
        if tensor.is_floating_point()
    }
    return first | means


def greedy_soup(states: Sequence[State], quality: Callable[[State], float]) -> tuple[State, list[int]]:
    """Add ingredients, the best first, while the average gets no worse (Wortsman et al., 2022).

    Args:
        quality: returns the quality of a state on validation data, lower is better.

    Returns:
        The soup, never worse than the best single state, and the positions of its ingredients.
    """
    qualities = [quality(state) for state in states]
    order = sorted(range(len(states)), key=qualities.__getitem__)
    ingredients, best = order[:1], qualities[order[0]]
    for index in order[1:]:
        value = quality(average([states[i] for i in (*ingredients, index)]))
        if value <= best:
            ingredients, best = [*ingredients, index], value
    return average([states[i] for i in ingredients]), ingredients
