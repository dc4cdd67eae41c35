"""Local pruners: one matrix or one group of elements and its statistics in, its levels out."""

from sparsesearch.pruning.base import STRUCTURED, UNSTRUCTURED, layer_error, structured, unstructured
from sparsesearch.pruning.experts import EXPERTS, Experts, expert_order
from sparsesearch.pruning.layer import Group, Layer, Reader

__all__ = [
    "EXPERTS",
    "STRUCTURED",
    "UNSTRUCTURED",
    "Experts",
    "Group",
    "Layer",
    "Reader",
    "expert_order",
    "layer_error",
    "structured",
    "unstructured",
]
