"""Parts of other people's: modules that register them (`registry.Registry`) when they are imported."""

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

# Group of entry points in which installed packages name such modules.
ENTRY_POINTS = "sparsesearch.plugins"


def check_trust(code: Sequence[str], trusted: bool, what: str) -> None:
    """Raise InputError SS129 if something that is not trusted would run code.

    Args:
        code: names of it (`RunConfig.code`).
        what: names it, as `the recipe`.
    """
    if code and not trusted:
        raise problem(
            "SS129",
            f"{what} names code, which is not run unasked: {', '.join(code)}.",
            fix="If you trust it, add --trust-remote-code (trust_remote_code=True).",
        )


def load_plugins(named: Iterable[str] = ()) -> None:
    """Import what installed packages name, and what a recipe does; each once in a process.

    Args:
        named: importable modules, or .py files.

    Raises InputError SS125 where one cannot be imported.
    """
    for point in entry_points(group=ENTRY_POINTS):
        with plugin(f"installed plug-in {point.value}"):
            point.load()
    for name in named:
        try:
            _load(name)
        except (Exception, SystemExit) as error:  # whatever other people's code raises
            known = isinstance(error, FileNotFoundError)
            reason = "no such file" if known else f"{type(error).__name__}: {first_line(error)}"
            raise problem(
                "SS125",
                f"plugins: {name!r} cannot be imported: {reason}.",
                fix="Name an importable module, or a .py file.",
            ) from None


@contextmanager
def plugin(name: str) -> Iterator[None]:
    """What code of a plug-in raises, `sys.exit` among it, becomes InputError SS127 that names it.

    Errors of ours and of the machine pass as they are.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, SparseSearchError) or machine_problem(error) is not None:
            raise
        raise problem(
            "SS127", f"{name} raised {type(error).__name__}: {first_line(error)}.", fix="Mend it, or choose another."
        ) from error


def unfit(name: str, got: Any, expected: str) -> SparseSearchError:
    """The error for a plug-in that returned something else than it should."""
    return problem(
        "SS127", f"{name} returned {described(got)}, expected {expected}.", fix="Mend it, or choose another."
    )


def described(value: Any) -> str:
    """A value in a few words: its type, and the shape and type of numbers of an array or the length of a sequence."""
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
