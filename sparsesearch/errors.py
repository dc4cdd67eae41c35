"""Everything that sparsesearch raises on purpose.

    SparseSearchError              code, one line, and a hint; never a traceback     exit code 3
    ├── InputError                 what the user wrote cannot be used                     exit code 2
    ├── EnvironmentProblem         the machine, cluster or disk does not allow it         exit code 3
    │   └── DamagedFile            a file of a run or a cache is not what was written     exit code 3
    └── InfeasibleError            nothing found that respects every limit                exit code 4

`error_codes.CODES` says what each code means and which class it has; `problem` makes an error of a code.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from sparsesearch.error_codes import CODES


class SparseSearchError(Exception):
    """An error with a stable `code`, a one-line `message` and a `hint` that says what to do."""

    exit_code = 3

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code, self.message, self.hint = code, message, hint

    def __str__(self) -> str:
        return f"{self.code} {self.message} {self.hint}".rstrip()


class InputError(SparseSearchError):
    """What the user wrote cannot be used."""

    exit_code = 2


class EnvironmentProblem(SparseSearchError):
    """The machine, cluster or disk does not allow it."""


class DamagedFile(EnvironmentProblem):
    """A file of a run (SS601) or of a cache (SS306) is not what was written."""

    def __init__(self, path: Path, reason: str, hint: str = "", code: str = "SS601") -> None:
        super().__init__(code, f"{path} is damaged: {reason.rstrip('.')}.", hint)
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[DamagedFile], tuple[Path, str, str, str]]:
        return type(self), (self.path, self.reason, self.hint, self.code)


class InfeasibleError(SparseSearchError):
    """No candidate respects every limit."""

    exit_code = 4


_CLASSES: dict[str, type[SparseSearchError]] = {
    "input": InputError,
    "environment": EnvironmentProblem,
    "infeasible": InfeasibleError,
    "run": SparseSearchError,
}


def problem(code: str, what: str, *, got: str = "", allowed: Iterable[str] = (), fix: str = "") -> SparseSearchError:
    """The error of a code, as an instance of the class that the code belongs to.

    Args:
        code: one of `error_codes.CODES`, of any kind but `damaged` and `warning`.
        what: one sentence that says what is wrong.
        got: the name that was given, if it should have been one of `allowed`; near ones are suggested.
        allowed: all names that there are.
        fix: what to do.
    """
    names = list(allowed)
    near = did_you_mean(got, names)
    message = f"{what.rstrip('.')}.{near and f' {near}'}"
    hint = f"Allowed: {', '.join(names)}. {fix}".rstrip() if names else fix
    return _CLASSES[CODES[code].kind](code, message, hint)


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """A question that suggests the nearest allowed names, as `Did you mean 'x'?`; '' if none is near."""
    near = difflib.get_close_matches(got, list(allowed), n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's text without its full stop, or the name of its type if it has none."""
    text = str(error).strip()
    return " ".join(text.splitlines()[0].split())[:400].rstrip(".") if text else type(error).__name__


# Characters of a line on a terminal or a page; of longer ones the middle is left out.
LONGEST_LINE = 20_000


def printable(text: str, longest: int = 1200) -> str:
    """Text as one line that a terminal shows and does not obey: control characters and lone surrogates are escaped, the
    middle of what is longer than `longest` characters is left out.
    """
    if len(text) > longest:
        text = f"{text[: longest // 2]}...{text[-longest // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# Bytes that a file system takes of a name, and of a path.
_NAME_BYTES, _PATH_BYTES = 255, 4096


def name_problem(text: str) -> str:
    """Why no file can have a name or path; '' where one can."""
    if not text.strip():
        return "it is empty"
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        return "it holds control characters, or bytes that are no UTF-8"
    if len(text.encode()) > _PATH_BYTES or any(len(part.encode()) > _NAME_BYTES for part in text.split("/")):
        return f"it is too long: at most {_NAME_BYTES} bytes between slashes"
    try:
        Path(text).expanduser()
    except RuntimeError:
        return "there is no such user"
    return ""


# What libraries say where memory is gone, or may not be taken.
_NO_MEMORY = ("allocate memory", "out of memory", "failed to map segment")
# What `errno` says where a disk is full, or cannot be written to.
FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_BAD_NAMES = {errno.ENAMETOOLONG, errno.ELOOP}


def machine_problem(error: BaseException, doing: str = "") -> SparseSearchError | None:
    """The one line for an error of the machine: SS305 (disk full), SS302 (not writable), SS309 (memory), SS312 (another
    error of the file system), or InputError SS126 for a name that no file can have; None for any other.

    Args:
        doing: what failed, such as `cannot write PATH`.
    """
    if isinstance(error, SparseSearchError):
        return None
    text = first_line(error)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _NO_MEMORY):
        return EnvironmentProblem(
            "SS309",
            f"{doing or 'the machine'}: out of memory ({text}).",
            "Use fewer workers or a smaller batch.",
        )
    # Where a library keeps no errno; the second is numpy's.
    if "No space left on device" in text or re.fullmatch(r"\d+ requested and \d+ written", text):
        return _full(doing or text)
    number = error.errno if isinstance(error, OSError) else None
    if told := re.search(r"\(os error (\d+)\)", text):  # as libraries in Rust say it
        number = int(told[1])
    if number is None:
        return None
    what = doing or f"cannot use {getattr(error, 'filename', None) or 'a file'}"
    if number in FULL:
        return _full(what)
    reason = os.strerror(number)
    if number in _BAD_NAMES:
        return InputError("SS126", f"{what}: {reason}.", "Give another name.")
    code = "SS302" if number in _READ_ONLY else "SS312"
    return EnvironmentProblem(code, f"{what}: {reason}.", "Choose a place that can be used.")


def _full(what: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        "SS305", f"{what}: no space left on the disk.", "Free some, then run the command again, or resume the run."
    )
