"""From a score of each weight to levels with exact counts: what all pruners that keep values share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Literal, get_args

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.plugins import wrong_return_value
from sparsesearch.pruning.checked import called, check_scores
from sparsesearch.pruning.dsnot import dsnot
from sparsesearch.pruning.layer import Layer, Unstructured
from sparsesearch.pruning.pattern import keep_n_of_m, n_of_m

# Among which weights scores are compared: those of a row, or all of the layer.
Scope = Literal["row", "layer"]
# (layer, options) -> score_OI, the highest are kept, and its scope
Score = Callable[[Layer, PrunerConfig], tuple[torch.Tensor, Scope]]


def by_score(score: Score) -> Unstructured:
    """The pruner that keeps the weights of highest score, values unchanged; it has the score's name and docstring.

    With `options.pattern` the highest N of every M adjacent weights of a row are kept (scope is then not read), and
    with `options.polish` the masks are improved afterwards. Raises InputError SS104 where the pattern does not fit.
    """

    @wraps(score)
    def prune(layer: Layer, kept: Sequence[int], options: PrunerConfig) -> torch.Tensor:
        score_OI, scope = _scored(score, layer, options)
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


def _scored(score: Score, layer: Layer, options: PrunerConfig) -> tuple[torch.Tensor, Scope]:
    """What the score says; raises InputError SS127 where it is nothing to sort weights by."""
    name, found = f"score {called(score)!r}", score(layer, options)
    if not isinstance(found, tuple) or len(found) != 2 or found[1] not in get_args(Scope):
        raise wrong_return_value(name, found, "scores of all weights and 'row' or 'layer'")
    check_scores(name, found[0], tuple(layer.weight_OI.shape))
    return found


def nested_masks(score_OI: torch.Tensor, scope: Scope, kept: Sequence[int]) -> torch.Tensor:
    """Masks (L, O, I) of the highest scores, exactly `kept[l]` true; ties fall to the earlier weight.

    Within scope `row` all rows keep equally many; where a count does not divide, the first rows keep one more.
    """
    score = score_OI if scope == "row" else score_OI.reshape(1, -1)
    order = score.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(score.shape[1], device=score.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    rows = torch.arange(len(score), device=score.device)
    counts = torch.tensor(kept, dtype=torch.int64, device=score.device)[:, None]
    quotas = counts // len(score) + (rows < counts % len(score))  # (L, rows)
    return (rank < quotas[:, :, None]).view(len(kept), *score_OI.shape)
