"""Local pruners: one linear or one sublayer and its statistics in, its levels out."""

from sparsesearch.pruning.base import STRUCTURED, UNSTRUCTURED, layer_error, structured, unstructured

__all__ = ["STRUCTURED", "UNSTRUCTURED", "layer_error", "structured", "unstructured"]
