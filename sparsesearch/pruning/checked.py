"""Checks of what pruners and orders return, so that the level store can hold it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.plugins import plugin, wrong_return_value
from sparsesearch.pruning.layer import Group, Layer, Levels, Structured, Unstructured, kept_inputs


def wrap_unstructured(name: str, prune: Unstructured) -> Callable[[Layer, Sequence[int], PrunerConfig], Levels]:
    """Wrap a pruner: InputError SS127 if its levels do not have the layer's shape, or have too many nonzeros."""

    @wraps(prune)
    def checked(layer: Layer, kept: Sequence[int], options: PrunerConfig) -> Levels:
        with plugin(name):
            result = prune(layer, kept, options)
        levels = result if isinstance(result, Levels) else Levels(result)
        shape = (len(kept), *layer.weight_OI.shape)
        if not _is_tensor(levels.weights, shape):
            raise wrong_return_value(name, result, f"levels of shape {shape}")
        if levels.errors is not None and not _is_tensor(levels.errors, (len(kept),)):
            raise wrong_return_value(name, levels.errors, f"errors of shape {(len(kept),)}")
        counts = torch.count_nonzero(levels.weights, dim=(1, 2)).tolist()
        for count, most in zip(counts, kept, strict=True):
            if count > most:
                raise wrong_return_value(name, result, f"at most {most:,} nonzeros in a level, got {count:,}")
        return levels

    return checked


def wrap_structured(name: str, prune: Structured) -> Structured:
    """Wrap a pruner: InputError SS127 if its order or levels do not fit the group."""

    @wraps(prune)
    def checked(
        group: Group, kept: Sequence[int], options: PrunerConfig
    ) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        with plugin(name):
            result = prune(group, kept, options)
        if not isinstance(result, tuple) or len(result) != 2:
            raise wrong_return_value(name, result, "an order and levels")
        order, levels = result
        removed = group.elements - min(kept, default=group.elements)
        check_order(name, order, group.elements, removed)
        if not isinstance(levels, (list, tuple)) or len(levels) != len(kept):
            raise wrong_return_value(name, levels, f"{len(kept)} levels")
        for count, weights in zip(kept, levels, strict=True):
            shapes = [
                (len(reader.layer.weight_OI), len(kept_inputs(reader.index, order, count))) for reader in group.readers
            ]
            if not isinstance(weights, (list, tuple)) or len(weights) != len(shapes):
                raise wrong_return_value(name, weights, f"weights of {len(shapes)} matrices in each level")
            for weight, shape in zip(weights, shapes, strict=True):
                if not _is_tensor(weight, shape):
                    raise wrong_return_value(name, weight, f"weights of shape {shape}")
        return order, list(levels)

    return checked


def wrap_order(name: str, rule: Callable[[Any], torch.Tensor], count: Callable[[Any], int]) -> Callable[[Any], Any]:
    """Wrap a criterion: InputError SS127 if its order does not hold each of `count` indices once."""

    @wraps(rule)
    def checked(argument: Any) -> torch.Tensor:
        with plugin(name):
            order = rule(argument)
        check_order(name, order, count(argument), count(argument))
        return order

    return checked


def callable_name(code: Any) -> str:
    """Return the name of a function, or of the class of another callable."""
    return str(getattr(code, "__name__", type(code).__name__))


def check_order(name: str, order: Any, count: int, least: int) -> None:
    """Raise InputError SS127 unless `order` holds at least `least` different indices below `count`."""
    expected = f"{least} different indices from 0 to {count - 1}, as a tensor of integers"
    if not isinstance(order, torch.Tensor) or order.dim() != 1 or order.is_floating_point() or order.is_complex():
        raise wrong_return_value(name, order, expected)
    indices = order.tolist()
    if len(indices) < least or len(set(indices)) < len(indices) or not all(0 <= i < count for i in indices):
        raise wrong_return_value(name, order, expected)


def check_scores(name: str, scores: Any, shape: tuple[int, ...]) -> None:
    """Raise InputError SS127 for scores that cannot be put in order."""
    if not _is_tensor(scores, shape) or bool(scores.isnan().any()):
        raise wrong_return_value(name, scores, f"a tensor of scores of shape {shape}, none of them nan")


def _is_tensor(value: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, torch.Tensor) and tuple(value.shape) == shape and not value.is_complex()
