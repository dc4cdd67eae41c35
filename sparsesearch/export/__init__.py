"""Writing candidates as real models, and proving that they load."""

from sparsesearch.export.forms.registry import FORMS, choose
from sparsesearch.export.loading import load
from sparsesearch.export.write import export

__all__ = ["FORMS", "choose", "export", "load"]
