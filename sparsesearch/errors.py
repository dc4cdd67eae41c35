"""The errors that sparsesearch raises on purpose.

    SparseSearchError              code, one line, and a hint; never a traceback     exit code 3
    ├── InputError                 the user's input cannot be used                        exit code 2
    ├── EnvironmentProblem         the machine, cluster or disk does not allow it         exit code 3
    │   └── DamagedFile            a file of a run or a cache changed since it was written   exit code 3
    └── InfeasibleError            no candidate meets every limit                         exit code 4

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
    """The user's input cannot be used."""

    exit_code = 2


class EnvironmentProblem(SparseSearchError):
    """The machine, cluster or disk does not allow an operation."""


class DamagedFile(EnvironmentProblem):
    """A file of a run (SS601) or of a cache (SS306) changed since it was written."""

    def __init__(self, path: Path, reason: str, hint: str = "", code: str = "SS601") -> None:
        super().__init__(code, f"{path} is damaged: {reason.rstrip('.')}.", hint)
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[DamagedFile], tuple[Path, str, str, str]]:
        return type(self), (self.path, self.reason, self.hint, self.code)


class InfeasibleError(SparseSearchError):
    """No candidate meets every limit."""

    exit_code = 4


_CLASSES: dict[str, type[SparseSearchError]] = {
    "input": InputError,
    "environment": EnvironmentProblem,
    "infeasible": InfeasibleError,
    "run": SparseSearchError,
}


def problem(code: str, what: str, *, got: str = "", allowed: Iterable[str] = (), fix: str = "") -> SparseSearchError:
    """Return the error of a code, as an instance of the class that the code belongs to.

    Args:
        code: one of `error_codes.CODES`, of any kind but `damaged` and `warning`.
        what: one sentence that says what is wrong.
        got: the name that was given, if it should have been one of `allowed`; similar names are suggested.
        allowed: all valid names.
        fix: what to do.
    """
    names = list(allowed)
    near = did_you_mean(got, names)
    message = f"{what.rstrip('.')}.{near and f' {near}'}"
    hint = f"Allowed: {', '.join(names)}. {fix}".rstrip() if names else fix
    return _CLASSES[CODES[code].kind](code, message, hint)


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """Return a question that suggests the nearest allowed names, as `Did you mean 'x'?`; '' if none is near."""
    near = difflib.get_close_matches(got, list(allowed), n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text without its full stop; the name of its type if it has no text."""
    text = str(error).strip()
    return " ".join(text.splitlines()[0].split())[:400].rstrip(".") if text else type(error).__name__


# Longer lines on a terminal or a page are shortened in the middle.
MAX_LINE_CHARACTERS = 20_000


def printable(text: str, longest: int = 1200) -> str:
    """Return text as one line without control sequences: control characters and lone surrogates are escaped, and text
    longer than `longest` characters is shortened in the middle.
    """
    if len(text) > longest:
        text = f"{text[: longest // 2]}...{text[-longest // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 4096


def name_problem(text: str) -> str:
    """Return the reason why a text cannot be a file's name or path; '' if it can."""
    if not text.strip():
        return "it is empty"
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        return "it holds control characters, or bytes that are not UTF-8"
    if len(text.encode()) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in text.split("/")):
        return f"it is too long: at most {_MAX_NAME_BYTES} bytes between slashes"
    try:
        Path(text).expanduser()
    except RuntimeError:
        return "there is no such user"
    return ""


# Parts of the messages of libraries that could not allocate memory.
_OUT_OF_MEMORY_TEXTS = ("allocate memory", "out of memory", "failed to map segment")
DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY_ERRNOS = {errno.EROFS, errno.EACCES, errno.EPERM}
_BAD_NAME_ERRNOS = {errno.ENAMETOOLONG, errno.ELOOP}


def machine_problem(error: BaseException, doing: str = "") -> SparseSearchError | None:
    """Return the one-line error for an error of the machine: SS305 (disk full), SS302 (not writable), SS309 (memory),
    SS312 (another error of the file system), or InputError SS126 for a name that no file can have; None otherwise.

    Args:
        doing: the action that failed, such as `cannot write PATH`.
    """
    if isinstance(error, SparseSearchError):
        return None
    text = first_line(error)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _OUT_OF_MEMORY_TEXTS):
        return EnvironmentProblem(
            "SS309",
            f"{doing or 'the machine'}: out of memory ({text}).",
            "Use fewer workers or a smaller batch.",
        )
    # Errors without an errno; the second text is numpy's.
    if "No space left on device" in text or re.fullmatch(r"\d+ requested and \d+ written", text):
        return _disk_full(doing or text)
    number = error.errno if isinstance(error, OSError) else None
    if match := re.search(r"\(os error (\d+)\)", text):  # the wording of libraries in Rust
        number = int(match[1])
    if number is None:
        return None
    what = doing or f"cannot use {getattr(error, 'filename', None) or 'a file'}"
    if number in DISK_FULL_ERRNOS:
        return _disk_full(what)
    reason = os.strerror(number)
    if number in _BAD_NAME_ERRNOS:
        return InputError("SS126", f"{what}: {reason}.", "Give another name.")
    code = "SS302" if number in _READ_ONLY_ERRNOS else "SS312"
    return EnvironmentProblem(code, f"{what}: {reason}.", "Choose a place that can be used.")


def _disk_full(what: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        "SS305", f"{what}: no space left on the disk.", "Free some, then run the command again, or resume the run."
    )
