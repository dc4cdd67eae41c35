"""Loading networks, and family maps that say what their units are and what moves together."""

from sparsesearch.models.builder import Parts, joined, span
from sparsesearch.models.family import FAMILIES, describe, family
from sparsesearch.models.load import dense_config, load_model, load_tokenizer, meta_model, resolve, weights_hash
from sparsesearch.models.network import Network

__all__ = [
    "FAMILIES",
    "Network",
    "Parts",
    "dense_config",
    "describe",
    "family",
    "joined",
    "load_model",
    "load_tokenizer",
    "meta_model",
    "resolve",
    "span",
    "weights_hash",
]
