"""Writes candidates as real models, and verifies that they load."""

from sparsesearch.export.forms.form import CannotTakeForm, Form
from sparsesearch.export.forms.registry import FORMS, choose, form
from sparsesearch.export.loading import load
from sparsesearch.export.write import export

__all__ = ["FORMS", "CannotTakeForm", "Form", "choose", "export", "form", "load"]
