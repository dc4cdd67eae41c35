"""Local pruners: each turns one matrix, or one group of elements, and its statistics into levels."""

from sparsesearch.pruning.base import (
    NEEDS_GRADIENTS,
    STRUCTURED,
    UNSTRUCTURED,
    layer_error,
    needs_gradients,
    pruner,
    structured,
    unstructured,
)
from sparsesearch.pruning.bias import bias_shift
from sparsesearch.pruning.experts import EXPERTS, Experts, expert_order
from sparsesearch.pruning.layer import Group, Layer, Reader, Writer

__all__ = [
    "EXPERTS",
    "NEEDS_GRADIENTS",
    "STRUCTURED",
    "UNSTRUCTURED",
    "Experts",
    "Group",
    "Layer",
    "Reader",
    "Writer",
    "bias_shift",
    "expert_order",
    "layer_error",
    "needs_gradients",
    "pruner",
    "structured",
    "unstructured",
]
