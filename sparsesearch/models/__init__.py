"""Loading networks, and family maps that say what their units are and what moves together."""

from sparsesearch.models.family import FAMILIES, describe, family
from sparsesearch.models.load import dense_config, load_model, load_tokenizer, meta_model, resolve, weights_hash
from sparsesearch.models.network import Network
from sparsesearch.models.parts import Parts, joined, span

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
