"""N:M patterns: of every M adjacent inputs of a row exactly N weights are kept (Mishra et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsesearch.errors import problem


def n_of_m(pattern: str, shape: tuple[int, ...], kept: Sequence[int]) -> tuple[int, int]:
    """Return N and M of a pattern; raises InputError SS104 if a matrix of shape (O, I) or its levels do not fit it."""
    n, m = (int(part) for part in pattern.split(":"))
    outputs, inputs = shape
    if inputs % m:
        raise problem(
            "SS104",
            f"pattern {pattern}: a matrix of {outputs} x {inputs} has {inputs} inputs, not a multiple of {m}.",
            fix="Exclude such matrices by the unit's target, or choose another pattern.",
        )
    required = outputs * inputs // m * n
    for count in kept:
        if count != required:
            raise problem(
                "SS104",
                f"pattern {pattern} has one pruned level, {required} of {outputs * inputs} weights kept; got {count}.",
                fix=f"Give its sparsity units levels: [{1 - n / m}].",
            )
    return n, m


def keep_n_of_m(score: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Return the mask of the highest N of every M adjacent scores of the last dimension, of the shape of the scores.

    Of equal scores the earlier is kept.
    """
    groups = score.reshape(*score.shape[:-1], -1, m)
    order = groups.argsort(dim=-1, descending=True, stable=True)
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order[..., :n], True).flatten(-2)
