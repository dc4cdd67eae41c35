"""Loading networks, and family maps that say what their units are and what moves together."""

from sparsesearch.models.architecture import Architecture, Linear, Sublayer
from sparsesearch.models.family import FAMILIES, describe
from sparsesearch.models.load import dense_config, load_model, load_tokenizer, meta_model, resolve, weights_hash
from sparsesearch.models.shape import Shape, apply_shapes

__all__ = [
    "FAMILIES",
    "Architecture",
    "Linear",
    "Shape",
    "Sublayer",
    "apply_shapes",
    "dense_config",
    "describe",
    "load_model",
    "load_tokenizer",
    "meta_model",
    "resolve",
    "weights_hash",
]
