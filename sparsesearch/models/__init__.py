"""Loading networks, and family maps that say what their units are and what moves together."""

from sparsesearch.models.family import FAMILIES, describe
from sparsesearch.models.load import dense_config, load_model, load_tokenizer, meta_model, resolve, weights_hash
from sparsesearch.models.network import Network

__all__ = [
    "FAMILIES",
    "Network",
    "dense_config",
    "describe",
    "load_model",
    "load_tokenizer",
    "meta_model",
    "resolve",
    "weights_hash",
]
