"""Samples of every kind: texts, documents, images and tables of any origin, read within bounds and kept as arrays."""

from sparsesearch.data.python_inputs import samples_from_arrays
from sparsesearch.data.samples import Samples
from sparsesearch.data.text import samples_of, token_windows

__all__ = ["Samples", "samples_from_arrays", "samples_of", "token_windows"]
