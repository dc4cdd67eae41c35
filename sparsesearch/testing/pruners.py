"""Conformance of pruners and of orders of experts, on small random layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from sparsesearch.calibration import InputStatistics
from sparsesearch.config import PrunerConfig
from sparsesearch.errors import InputError
from sparsesearch.pruning import (
    STRUCTURED,
    UNSTRUCTURED,
    Experts,
    Group,
    Layer,
    Reader,
    Writer,
    expert_order_named,
    structured,
    unstructured,
)
from sparsesearch.pruning.layer import kept_inputs

OPTIONS = PrunerConfig(damp=0.01)
OUTPUTS, INPUTS = 12, 160
# Inputs of an element of a cut, in the two groups that pruners of elements are tried on.
SPANS = (1, 4)


def weights_and_moment(
    seed: int = 0, outputs: int = OUTPUTS, inputs: int = INPUTS, tokens: int = 400
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random weights (outputs, inputs), and E[x xᵀ] (inputs, inputs) of correlated inputs of mean zero."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(inputs, inputs, generator=generator) / inputs**0.5 + torch.eye(inputs)
    x = torch.randn(tokens, inputs, generator=generator) @ mixing
    return torch.randn(outputs, inputs, generator=generator), x.T @ x / tokens


def gradients_of_shape(shape: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and mean square of five samples' loss gradients, which depend on the number of axes alone."""
    samples = torch.randn(5, *shape, generator=torch.Generator().manual_seed(len(shape)))
    return samples.mean(dim=0), samples.square().mean(dim=0)


def layer_of(weight_OI: torch.Tensor, moment_II: torch.Tensor) -> Layer:
    """Return a layer with inputs of mean zero, and with gradients."""
    gradient, square = gradients_of_shape(weight_OI.shape)
    inputs = InputStatistics(moment_II, torch.zeros(len(moment_II), dtype=moment_II.dtype), moment_II.diagonal())
    return Layer(weight_OI, inputs, square, gradient)


def group_of(weight_OI: torch.Tensor, moment_II: torch.Tensor, span: int) -> Group:
    """Return a group whose elements are `span` adjacent inputs of one reader; two writers of different spans."""
    index = torch.arange(len(moment_II)).view(-1, span)
    generator = torch.Generator().manual_seed(5)
    rows = [torch.randn(len(index), count, 7, generator=generator) for count in (span, 2 * span)]
    writers = tuple(Writer(weight, *gradients_of_shape(weight.shape)) for weight in rows)
    return Group((Reader(layer_of(weight_OI, moment_II), index),), writers)


def without_gradients(group: Group) -> Group:
    """Return the group without gradients of its readers and writers."""
    readers = tuple(Reader(Layer(r.layer.weight_OI, r.layer.inputs), r.index) for r in group.readers)
    return Group(readers, tuple(Writer(writer.weight) for writer in group.writers))


def experts_of(count: int = 6) -> Experts:
    """Return random statistics of a layer's experts."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.rand(count, generator=generator) for _ in range(3)]
    return Experts(torch.randn(count, 8, generator=generator), *values)


def check_pruner(name: str, of: Literal["sparsity", "width"]) -> None:
    """Check a registered pruner: of weights (`pruners.sparsity`) or of the elements of a cut (`pruners.width`).

    - Levels are finite, with the right shapes and counts.
    - They are repeatable, and do not depend on the other levels that are built.
    - Inputs stay unchanged.
    - Gradients are read if the pruner declares `needs_gradients`, and only then.
    - An N:M pattern is kept, or refused.

    Raises AssertionError, or InputError SS127 for a return value that the level store cannot hold.
    """
    if of == "sparsity":
        _check_levels(name)
        _check_dead_inputs(name)
        _check_pattern(name)
        _check_gradients_of_weights(name)
    else:
        for span in SPANS:
            _check_elements(name, span)
            _check_gradients_of_elements(name, span)


def _check_levels(name: str) -> None:
    prune, kept = unstructured(name), [OUTPUTS * INPUTS - 1, 1500, 701, 96, 1, 0]
    layer = layer_of(*weights_and_moment())
    weight = layer.weight_OI.clone()
    levels = prune(layer, kept, OPTIONS).weights
    assert torch.equal(levels, prune(layer, kept, OPTIONS).weights), "the same layer has the same levels again"
    assert torch.equal(layer.weight_OI, weight), "the dense weights stay as they are"
    for count, level in zip(kept, levels, strict=True):
        alone = prune(layer_of(*weights_and_moment()), [count], OPTIONS).weights[0]
        assert torch.allclose(alone, level, atol=1e-5), f"the level of {count} weights does not depend on other levels"
    everything = prune(layer, [weight.numel()], OPTIONS).weights[0]
    assert torch.equal(everything, weight), "a level that keeps all weights changes none"


def _check_dead_inputs(name: str) -> None:
    weight, moment = weights_and_moment()
    moment[5], moment[:, 5] = 0.0, 0.0
    levels = unstructured(name)(layer_of(weight, moment), [900], OPTIONS).weights
    assert torch.isfinite(levels).all(), "an input that is always zero makes no level infinite or nan"


def _check_pattern(name: str) -> None:
    options = OPTIONS.model_copy(update={"pattern": "2:4"})
    try:
        level = unstructured(name)(layer_of(*weights_and_moment()), [OUTPUTS * INPUTS // 2], options).weights[0]
    except InputError as error:
        assert error.code == "SS104", f"a pattern is refused with InputError SS104, got {error.code}"
        return
    counts = torch.count_nonzero(level.view(OUTPUTS, -1, 4), dim=-1)
    assert (counts <= 2).all(), f"pattern 2:4 keeps at most 2 of every 4 adjacent weights of a row, got {counts.max()}"


def _check_gradients_of_weights(name: str) -> None:
    layer, prune = layer_of(*weights_and_moment()), unstructured(name)
    bare = Layer(layer.weight_OI, layer.inputs)
    if UNSTRUCTURED[name].needs_gradients:
        _check_refused(lambda: prune(bare, [900], OPTIONS))
    else:
        same = torch.equal(prune(bare, [900], OPTIONS).weights, prune(layer, [900], OPTIONS).weights)
        assert same, "a pruner that reads gradients is registered with needs_gradients=True"


def _check_elements(name: str, span: int) -> None:
    prune, count = structured(name), 24 // span
    kept = [count - 1, count // 2, 1]
    group = group_of(*weights_and_moment(inputs=24), span)
    weights = [reader.layer.weight_OI.clone() for reader in group.readers]
    order, levels = prune(group, kept, OPTIONS)
    again, same = prune(group, kept, OPTIONS)
    assert torch.equal(order, again), "the same group has the same order again"
    for level, other in zip(levels, same, strict=True):
        assert all(map(torch.equal, level, other)), "the same group has the same levels again"
    for reader, weight in zip(group.readers, weights, strict=True):
        assert torch.equal(reader.layer.weight_OI, weight), "the dense weights stay as they are"
    assert all(bool(torch.isfinite(weight).all()) for level in levels for weight in level), "levels are finite"
    for index, elements in enumerate(kept):
        (reader,), (weight,) = group.readers, levels[index]
        inputs = len(kept_inputs(reader.index, order, elements))
        assert weight.shape == (OUTPUTS, inputs), f"a level of {elements} elements has weights of their inputs"


def _check_gradients_of_elements(name: str, span: int) -> None:
    group, prune = group_of(*weights_and_moment(inputs=24), span), structured(name)
    bare = without_gradients(group)
    if STRUCTURED[name].needs_gradients:
        _check_refused(lambda: prune(bare, [2], OPTIONS))
    else:
        same = torch.equal(prune(bare, [2], OPTIONS)[0], prune(group, [2], OPTIONS)[0])
        assert same, "a pruner that reads gradients is registered with needs_gradients=True"


def _check_refused(prune: Callable[[], object]) -> None:
    try:
        prune()
    except InputError:
        return
    raise AssertionError("a pruner registered with needs_gradients=True reads gradients, and refuses to go without")


def check_expert_order(name: str) -> None:
    """Check a registered order of experts: it holds every expert once, is repeatable, and leaves its inputs unchanged.

    Raises AssertionError, or InputError SS127 for a return value that is no order.
    """
    rule = expert_order_named(name)
    for count in (1, 2, 6, 16):
        experts, before = experts_of(count), experts_of(count)
        order = rule(experts)
        assert sorted(order.tolist()) == list(range(count)), "an order holds every expert once"
        assert torch.equal(rule(experts), order), "the same experts have the same order again"
        for field, value in vars(before).items():
            assert torch.equal(getattr(experts, field), value), f"`{field}` stays as it is"
