"""Local pruners: each turns one matrix, or one group of elements, and its statistics into levels."""

from sparsesearch.pruning.base import (
    STRUCTURED,
    UNSTRUCTURED,
    Pruner,
    layer_error,
    layer_errors,
    needs_gradients,
    pruner,
    structured,
    unstructured,
)
from sparsesearch.pruning.bias import bias_shift
from sparsesearch.pruning.experts import EXPERTS, Experts, expert_order, expert_order_named
from sparsesearch.pruning.layer import Group, Layer, Levels, Reader, Writer

__all__ = [
    "EXPERTS",
    "STRUCTURED",
    "UNSTRUCTURED",
    "Experts",
    "Group",
    "Layer",
    "Levels",
    "Pruner",
    "Reader",
    "Writer",
    "bias_shift",
    "expert_order",
    "expert_order_named",
    "layer_error",
    "layer_errors",
    "needs_gradients",
    "pruner",
    "structured",
    "unstructured",
]
