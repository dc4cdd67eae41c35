"""Text of every Python installation: the sources and docstrings of its standard library.

Each file belongs to exactly one split, decided by the SHA-256 of its path below the library's root, so the splits are
disjoint on every machine and a file stays in its split if Python is upgraded.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

Split = Literal["train", "calibration", "selection", "test"]
SPLITS: tuple[str, ...] = get_args(Split)

# Upper bounds of the hash's first byte for each split, in order; the remaining files train the demo model.
_UPPER_BYTE = {"calibration": 12, "selection": 24, "test": 36, "train": 256}

# Directories that are not installed everywhere (tests, Tk, third-party packages) or hold tables (encodings).
_EXCLUDED = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "turtledemo",
    "tkinter",
    "ensurepip",
    "encodings",
    "lib-dynload",
}


def split_of(relative_path: str) -> str:
    """Return the split of a standard-library file, by its POSIX path below the library's root."""
    first_byte = hashlib.sha256(relative_path.encode()).digest()[0]
    return next(split for split, upper in _UPPER_BYTE.items() if first_byte < upper)


def files(split: Split) -> list[Path]:
    """Return the standard-library source files of one split, sorted by path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = []
    for directory, folders, names in os.walk(root):
        # Pruned here, since installed packages are many times larger than the library.
        folders[:] = [name for name in folders if name not in _EXCLUDED]
        paths += [Path(directory, name) for name in names if name.endswith(".py")]
    return [
        path
        for path in sorted(paths)
        if not path.name.startswith("_sysconfigdata") and split_of(path.relative_to(root).as_posix()) == split
    ]


def documents(split: Split) -> Iterator[str]:
    """Yield the text of every file of one split."""
    for path in files(split):
        yield path.read_text(encoding="utf-8", errors="replace")
