"""Versions of the packages that results may depend on."""

from __future__ import annotations

import importlib.metadata

PACKAGES = ("sparsesearch", "torch", "transformers", "ray", "pymoo", "optuna", "numpy")


def versions() -> dict[str, str]:
    """Return installed versions by package; `missing` if it is not installed (Ray is optional)."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "missing"
    return installed
