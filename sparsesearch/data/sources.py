"""Files as a source: found, told from what only has their name, opened as text, and read in bounded pieces."""

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
PIECE = 2**20
# Characters of a document that is tokenised whole. Tokenizers take hundreds of bytes of memory a character.
DOCUMENT = 2**22
# How files begin that are no text, whatever their name.
_BEGINNINGS = {
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
_JSON = re.compile(r'\s*(\[\s*)?\{\s*"(\\.|[^"\\])*"\s*:')
# The longest first: a mark of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def cannot_read(source: object, role: str, reason: str, hint: str = "") -> SparseSearchError:
    """The error SS204 for a file that is not what is wanted."""
    return problem(
        "SS204", f"{role} data: cannot read {source}: {reason.rstrip('.')}.", fix=hint or f"Set data.{role}.source."
    )


def is_json(file: TextIO) -> bool:
    """Whether a file begins like a JSON object, or a list of them."""
    head = file.read(4096)
    file.seek(0)
    return _JSON.match(head) is not None


def existing(source: str, role: str) -> Path:
    """The path of a file or folder; raises InputError SS204 where there is none, or no such name can be."""
    try:
        path = Path(source).expanduser()
        path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # missing; a NUL in it; no such user
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise cannot_read(source, role, reason) from None
    return path


def regular_file(source: str, role: str) -> Path:
    """The path of a file; raises InputError SS204 also for folders, and for devices and pipes, which have no end."""
    path = existing(source, role)
    if not stat.S_ISREG(path.stat().st_mode):
        raise cannot_read(source, role, "a folder" if path.is_dir() else "not a regular file", "Give a file.")
    return path


@contextmanager
def reading(source: object, role: str) -> Iterator[None]:
    """Turn what libraries raise about a file's content into InputError SS204."""
    try:
        yield
    except UnicodeError:
        raise cannot_read(source, role, "not UTF-8 text", "Save it in UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise cannot_read(source, role, getattr(error, "strerror", None) or first_line(error)) from None


@contextmanager
def open_text(source: str, role: str, newline: str | None = None) -> Iterator[TextIO]:
    """A file's text, unzipped where its name ends in .gz: UTF-8, or what its byte order mark says.

    Args:
        newline: as of `open`.

    Raises InputError SS204, also while it is read, for what is no text.
    """
    path = regular_file(source, role)
    with reading(path, role), path.open("rb") as raw:
        binary: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if path.suffix.lower() == GZIP else raw
        head = binary.read(16)
        binary.seek(0)
        for beginning, what in _BEGINNINGS.items():
            if head.startswith(beginning):
                raise cannot_read(path, role, f"its content is {what}", "Give text, or a table.")
        encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
        yield io.TextIOWrapper(binary, encoding=encoding, newline=newline)


def text_lines(source: str, role: str) -> Iterator[str]:
    """Lines of a text with their ends; of long ones parts, which end before a space where there is one.

    Raises InputError SS204 for what cannot be read, holds NUL characters, or is a table under another name.
    """
    with open_text(source, role) as file:
        if is_json(file):
            raise cannot_read(source, role, "its content is JSON", "Name it .jsonl or .json: it is a table.")
        for line in _parts(file):
            if "\0" in line:
                raise cannot_read(source, role, "it holds NUL characters, as no text does", "Give a file of text.")
            yield line


def _parts(file: TextIO) -> Iterator[str]:
    rest = ""
    while chunk := file.readline(PIECE):
        line, rest = rest + chunk, ""
        if len(chunk) == PIECE and not chunk.endswith("\n"):
            cut = line.rfind(" ")
            line, rest = (line[:cut], line[cut:]) if cut > 0 else (line, "")
        yield line
    if rest:
        yield rest


def pieces(lines: Iterable[str], size: int) -> Iterator[str]:
    """Lines joined to pieces of `size` characters or a little more, which end where lines do."""
    piece: list[str] = []
    length = 0
    for line in (part for longer in lines for part in longer.splitlines(keepends=True)):
        piece.append(line)
        length += len(line)
        if length >= size:
            yield "".join(piece)
            piece, length = [], 0
    if piece:
        yield "".join(piece)


def document_pieces(document: str) -> Iterator[str]:
    """A document whole, or in pieces where it is a long one."""
    return iter([document]) if len(document) <= DOCUMENT else pieces(_parts(io.StringIO(document)), PIECE)
