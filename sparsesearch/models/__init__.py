"""Loads networks, and describes with family maps what their units are and which tensors are cut together."""

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.family import FAMILIES, describe, family
from sparsesearch.models.load import dense_config, load_model, load_tokenizer, meta_model, resolve, weights_hash
from sparsesearch.models.network import Network
from sparsesearch.models.sublayers import (
    CACHED,
    NO_CACHE,
    Context,
    Elements,
    Heads,
    Linears,
    Routing,
    join_indices,
    span,
)

__all__ = [
    "CACHED",
    "FAMILIES",
    "NO_CACHE",
    "Context",
    "Elements",
    "Heads",
    "Linears",
    "Network",
    "NetworkBuilder",
    "Routing",
    "dense_config",
    "describe",
    "family",
    "join_indices",
    "load_model",
    "load_tokenizer",
    "meta_model",
    "resolve",
    "span",
    "weights_hash",
]
