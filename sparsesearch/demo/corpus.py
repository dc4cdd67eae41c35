"""Text that every Python installation carries: the sources and docstrings of its standard library.

Each file belongs to exactly one split, decided by the SHA-256 of its path below the library's root, so the splits are
disjoint on every machine and do not move when Python is upgraded.
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

# First byte of the hash below which a file belongs to the split; what is left trains the demo model.
_UPPER_BYTE = {"calibration": 12, "selection": 24, "test": 36, "train": 256}

# Not installed everywhere (tests, Tk, third-party packages) or tables rather than text (encodings).
_LEFT_OUT = {
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
    """The split of a standard-library file, from its POSIX path below the library's root."""
    first_byte = hashlib.sha256(relative_path.encode()).digest()[0]
    return next(split for split, upper in _UPPER_BYTE.items() if first_byte < upper)


def files(split: Split) -> list[Path]:
    """The standard-library source files of one split, sorted by path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for directory, below, names in os.walk(root):
        # Not even looked into: installed packages are many times the library.
        below[:] = [name for name in below if name not in _LEFT_OUT]
        found += [Path(directory, name) for name in names if name.endswith(".py")]
    return [
        path
        for path in sorted(found)
        if not path.name.startswith("_sysconfigdata") and split_of(path.relative_to(root).as_posix()) == split
    ]


def documents(split: Split) -> Iterator[str]:
    """The text of every file of one split."""
    for path in files(split):
        yield path.read_text(encoding="utf-8", errors="replace")
