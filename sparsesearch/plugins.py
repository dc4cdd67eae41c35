"""Plug-ins: modules of a user that register parts (`registry.Registry`) when they are imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from sparsesearch.errors import SparseSearchError, first_line, machine_problem, problem

# Group of entry points in which installed packages name their plug-in modules.
ENTRY_POINTS = "sparsesearch.plugins"


def check_trust(code: Sequence[str], trusted: bool, what: str) -> None:
    """Raise InputError SS129 if an untrusted input names code to run.

    Args:
        code: the modules and files that would run (`RunConfig.code`).
        trusted: whether the user allowed this.
        what: the input in a message, such as `the recipe`.
    """
    if code and not trusted:
        raise problem(
            "SS129",
            f"{what} names code, which runs only if you allow it: {', '.join(code)}.",
            fix="If you trust it, add --trust-remote-code (trust_remote_code=True).",
        )


def load_plugins(named: Iterable[str] = ()) -> None:
    """Import the plug-ins of installed packages and of a recipe, each once in a process.

    Args:
        named: the recipe's plug-ins: importable modules, or .py files.

    Raises InputError SS125 if one cannot be imported.
    """
    for point in entry_points(group=ENTRY_POINTS):
        with plugin(f"installed plug-in {point.value}"):
            point.load()
    for name in named:
        try:
            _load(name)
        except (Exception, SystemExit) as error:  # plug-ins may raise anything
            missing = isinstance(error, FileNotFoundError)
            reason = "no such file" if missing else f"{type(error).__name__}: {first_line(error)}"
            raise problem(
                "SS125",
                f"plugins: {name!r} cannot be imported: {reason}.",
                fix="Name an importable module, or a .py file.",
            ) from None


@contextmanager
def plugin(name: str) -> Iterator[None]:
    """Turn any exception of a plug-in's code, `sys.exit` included, into InputError SS127 with the plug-in's name.

    Errors of sparsesearch and of the machine pass unchanged.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, SparseSearchError) or machine_problem(error) is not None:
            raise
        raise problem(
            "SS127",
            f"{name} raised {type(error).__name__}: {first_line(error)}.",
            fix="Fix the plug-in, or choose another.",
        ) from error


def wrong_return_value(name: str, got: Any, expected: str) -> SparseSearchError:
    """Return the error SS127 for a plug-in that returned a value of the wrong kind."""
    return problem(
        "SS127",
        f"{name} returned {describe_value(got)}, expected {expected}.",
        fix="Fix the plug-in, or choose another.",
    )


def describe_value(value: Any) -> str:
    """Return a value in a few words: its type, with shape and data type of an array, or length of a sequence."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    kind = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{kind} of shape {tuple(value.shape)} and {value.dtype}"
    return f"{kind} of {len(value)}" if isinstance(value, (list, tuple, str, dict, set)) else kind


def _load(name: str) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    path = Path(name).expanduser().resolve(strict=True)
    module_name = f"sparsesearch_plugin_{path.stem}"
    if getattr(sys.modules.get(module_name), "__file__", None) == str(path):
        return
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
