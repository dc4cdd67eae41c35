"""Levels with exact counts from a score of each weight, for all pruners that keep values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Literal, get_args

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.plugins import wrong_return_value
from sparsesearch.pruning.checked import callable_name, check_scores
from sparsesearch.pruning.dsnot import dsnot
from sparsesearch.pruning.layer import Layer, Unstructured
from sparsesearch.pruning.pattern import keep_n_of_m, n_of_m

# The weights among which scores are compared: those of a row, or all of the layer.
Scope = Literal["row", "layer"]
# (layer, options) -> score_OI, the highest are kept, and its scope
Score = Callable[[Layer, PrunerConfig], tuple[torch.Tensor, Scope]]


def by_score(score: Score) -> Unstructured:
    """Return the pruner that keeps the weights of highest score, unchanged; it has the score's name and docstring.

    With `options.pattern` it keeps the highest N of every M adjacent weights of a row, whatever the scope; with
    `options.polish` it improves the masks afterwards. It raises InputError SS104 if the pattern does not fit.
    """

    @wraps(score)
    def prune(layer: Layer, kept: Sequence[int], options: PrunerConfig) -> torch.Tensor:
        score_OI, scope = _checked_score(score, layer, options)
        group = score_OI.shape[1]
        if options.pattern is None:
            keep_LOI = nested_masks(score_OI, scope, kept)
        else:
            n, group = n_of_m(options.pattern, score_OI.shape, kept)
            keep_LOI = keep_n_of_m(score_OI, n, group).expand(len(kept), -1, -1)
        if options.polish == "dsnot":
            keep_LOI = dsnot(layer, keep_LOI, group)
        return torch.where(keep_LOI, layer.weight_OI, 0.0)

    return prune


def _checked_score(score: Score, layer: Layer, options: PrunerConfig) -> tuple[torch.Tensor, Scope]:
    """Return the result of a score; raises InputError SS127 if it is not scores (O, I) and a scope."""
    name, result = f"score {callable_name(score)!r}", score(layer, options)
    if not isinstance(result, tuple) or len(result) != 2 or result[1] not in get_args(Scope):
        raise wrong_return_value(name, result, "scores of all weights and 'row' or 'layer'")
    check_scores(name, result[0], tuple(layer.weight_OI.shape))
    return result


def nested_masks(score_OI: torch.Tensor, scope: Scope, kept: Sequence[int]) -> torch.Tensor:
    """Return masks (L, O, I) of the highest scores (O, I), exactly `kept[l]` true; of equal scores the earlier is kept.

    With scope `row` all rows keep the same number, the first rows one more if a count is not divisible.
    """
    score = score_OI if scope == "row" else score_OI.reshape(1, -1)
    order = score.argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(score.shape[1], device=score.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, ranks)
    rows = torch.arange(len(score), device=score.device)
    counts = torch.tensor(kept, dtype=torch.int64, device=score.device)[:, None]
    quotas = counts // len(score) + (rows < counts % len(score))  # (L, rows)
    return (rank < quotas[:, :, None]).view(len(kept), *score_OI.shape)
