"""Versions of what results may depend on."""

from __future__ import annotations

import importlib.metadata

PACKAGES = ("sparsesearch", "torch", "transformers", "ray", "pymoo", "optuna", "numpy")


def versions() -> dict[str, str]:
    """Installed versions by package; `missing` where there is none (Ray, where only the local executor is used)."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
