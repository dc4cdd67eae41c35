"""Files as sources of data: found, checked for their format, opened as text, and read in bounded pieces."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from sparsesearch.errors import SparseSearchError, first_line, problem

GZIP = ".gz"
# Characters of a line that are read at once, and of lines that are tokenised at once.
PIECE_CHARACTERS = 2**20
# Longer documents are tokenised in pieces, since tokenizers take hundreds of bytes of memory a character.
MAX_DOCUMENT_CHARACTERS = 2**22
# First bytes of files that are not text.
_MAGIC_BYTES = {
    b"PAR1": "a Parquet file (name it .parquet)",
    b"\x1f\x8b": "gzipped (name it .gz)",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
}
_JSON_BEGINNING = re.compile(r'\s*(\[\s*)?\{\s*"(\\.|[^"\\])*"\s*:')
# Byte order marks, longest first: that of UTF-32 begins with that of UTF-16.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def cannot_read(source: object, role: str, reason: str, hint: str = "") -> SparseSearchError:
    """Return the error SS204 for a file that cannot be read."""
    return problem(
        "SS204", f"{role} data: cannot read {source}: {reason.rstrip('.')}.", fix=hint or f"Set data.{role}.source."
    )


def is_json(file: TextIO) -> bool:
    """Return whether a file begins like a JSON object, or a list of them."""
    head = file.read(4096)
    file.seek(0)
    return _JSON_BEGINNING.match(head) is not None


def existing_path(source: str, role: str) -> Path:
    """Return the path of a file or folder; raises InputError SS204 if it does not exist or its name is invalid."""
    try:
        path = Path(source).expanduser()
        path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # missing; a NUL in the name; no such user
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise cannot_read(source, role, reason) from None
    return path


def regular_file(source: str, role: str) -> Path:
    """Return the path of a file; raises InputError SS204 also for folders, devices and pipes."""
    path = existing_path(source, role)
    if not stat.S_ISREG(path.stat().st_mode):
        raise cannot_read(source, role, "a folder" if path.is_dir() else "not a regular file", "Give a file.")
    return path


@contextmanager
def translate_read_errors(source: object, role: str) -> Iterator[None]:
    """Turn errors of libraries that read a file into InputError SS204."""
    try:
        yield
    except UnicodeError:
        raise cannot_read(source, role, "not UTF-8 text", "Save it in UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise cannot_read(source, role, getattr(error, "strerror", None) or first_line(error)) from None


@contextmanager
def open_text(source: str, role: str, newline: str | None = None) -> Iterator[TextIO]:
    """Open a file's text, unzipped if its name ends in .gz: UTF-8, or the encoding of its byte order mark.

    Args:
        newline: as in `open`.

    Raises InputError SS204, also while it is read, for a file that is not text.
    """
    path = regular_file(source, role)
    with translate_read_errors(path, role), path.open("rb") as raw:
        binary: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if path.suffix.lower() == GZIP else raw
        head = binary.read(16)
        binary.seek(0)
        for beginning, content in _MAGIC_BYTES.items():
            if head.startswith(beginning):
                raise cannot_read(path, role, f"its content is {content}", "Give text, or a table.")
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), "utf-8")
        yield io.TextIOWrapper(binary, encoding=encoding, newline=newline)


def text_lines(source: str, role: str) -> Iterator[str]:
    """Yield the lines of a text with their line ends; long lines in parts, cut before a space if there is one.

    Raises InputError SS204 for a file that cannot be read, holds NUL characters, or is a table under another name.
    """
    with open_text(source, role) as file:
        if is_json(file):
            raise cannot_read(source, role, "its content is JSON", "Name it .jsonl or .json: it is a table.")
        for line in _bounded_lines(file):
            if "\0" in line:
                raise cannot_read(source, role, "it holds NUL characters, so it is not text", "Give a file of text.")
            yield line


def _bounded_lines(file: TextIO) -> Iterator[str]:
    rest = ""
    while chunk := file.readline(PIECE_CHARACTERS):
        line, rest = rest + chunk, ""
        if len(chunk) == PIECE_CHARACTERS and not chunk.endswith("\n"):
            cut = line.rfind(" ")
            line, rest = (line[:cut], line[cut:]) if cut > 0 else (line, "")
        yield line
    if rest:
        yield rest


def join_lines(lines: Iterable[str], size: int) -> Iterator[str]:
    """Join lines into pieces of `size` characters or a little more, which end at line ends."""
    piece: list[str] = []
    length = 0
    for line in (part for text in lines for part in text.splitlines(keepends=True)):
        piece.append(line)
        length += len(line)
        if length >= size:
            yield "".join(piece)
            piece, length = [], 0
    if piece:
        yield "".join(piece)


def document_pieces(document: str) -> Iterator[str]:
    """Yield a document, in pieces if it is long."""
    if len(document) <= MAX_DOCUMENT_CHARACTERS:
        return iter([document])
    return join_lines(_bounded_lines(io.StringIO(document)), PIECE_CHARACTERS)
