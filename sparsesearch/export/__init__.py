"""Writing candidates as real models, and proving that they load."""

from sparsesearch.export.forms import FORMS, choose
from sparsesearch.export.load import load
from sparsesearch.export.write import export

__all__ = ["FORMS", "choose", "export", "load"]
