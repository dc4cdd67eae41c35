"""Samples of every kind: texts, documents, images and tables of anybody's, read within bounds and kept as arrays."""

from sparsesearch.data.python_inputs import given_samples
from sparsesearch.data.samples import Samples
from sparsesearch.data.text import samples_of, token_windows

__all__ = ["Samples", "given_samples", "samples_of", "token_windows"]
