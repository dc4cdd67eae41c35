"""sparsesearch: AutoML search engine for sparse neural architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsesearch.api import Front, Run, search
    from sparsesearch.export import load
    from sparsesearch.space import Genome, Space

__version__ = "0.1.0"
__all__ = ["Front", "Genome", "Run", "Space", "__version__", "load", "search"]

_HOMES = {"Front": "api", "Run": "api", "search": "api", "load": "export", "Genome": "space", "Space": "space"}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    # Resolved on first use: reading verbs start without torch, transformers or ray.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"sparsesearch.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sparsesearch' has no attribute {name!r}")
