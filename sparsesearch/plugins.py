"""Searchers, pruners, proxies and families of other people's: modules that register them when they are imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from sparsesearch.errors import InputError

# Group of entry points in which installed packages name such modules.
ENTRY_POINTS = "sparsesearch.plugins"


def load_plugins(named: Iterable[str] = ()) -> None:
    """Import what installed packages name, and what a recipe does; each once in a process.

    Args:
        named: importable modules, or .py files.

    Raises InputError SS125 where one cannot be imported.
    """
    for point in entry_points(group=ENTRY_POINTS):
        point.load()
    for name in named:
        try:
            _load(name)
        except Exception as error:  # whatever other people's code raises
            first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
            reason = "no such file" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {first}"
            raise InputError(
                "SS125", f"plugins: {name!r} cannot be imported: {reason}.",
                "Name an importable module, or a .py file.",
            ) from None  # fmt: skip


def _load(name: str) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    path = Path(name).expanduser().resolve(strict=True)
    known = f"sparsesearch_plugin_{path.stem}"
    if getattr(sys.modules.get(known), "__file__", None) == str(path):
        return
    spec = importlib.util.spec_from_file_location(known, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
