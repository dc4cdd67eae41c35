"""Writes candidates as real models, and verifies that they load."""

from sparsesearch.export.forms.registry import FORMS, choose
from sparsesearch.export.loading import load
from sparsesearch.export.write import export

__all__ = ["FORMS", "choose", "export", "load"]
