"""Files that are written completely or not at all, and readers that turn any fault of a file into a one-line error.

Files that a run needs to resume are written durably: the file's bytes are on disk before its name is, and its directory
after. JSON documents hold a checksum of their content under `checksum`, safetensors files in their metadata, lines of
JSON as their last field; files of earlier versions, without checksums, are read unchecked.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparsesearch.errors import DamagedFile, SparseSearchError, first_line, machine_problem

CHECKSUM = "checksum"
_LINE_SUFFIX = ',"crc32":"{:08x}"}}'
_LINE_END = len(_LINE_SUFFIX.format(0))
# Larger JSON documents (config.json, tokenizer.json, a manifest) are refused.
MAX_DOCUMENT_BYTES = 2**28
# Least time between two syncs of a file of lines.
SYNC_SECONDS = 0.1
# Turns the reason why a file cannot be read into the error to raise.
Failure = Callable[[str], SparseSearchError]


@contextmanager
def atomic_write(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to, which replaces `path` when the block ends without an error.

    Args:
        durable: sync file and directory, so that a power cut leaves either the old or the new file.

    Raises EnvironmentProblem SS302 or SS305 if it cannot be written; the temporary file is deleted then.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            _sync(temporary)
        if path.is_dir():  # an empty one, which a damaged disk may leave
            path.rmdir()
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    except BaseException as error:
        _remove(temporary)
        fault = machine_problem(error, f"cannot write {path}")
        if fault is None:
            raise
        raise fault from error


@contextmanager
def atomic_write_tree(path: Path) -> Iterator[Path]:
    """Yield a new temporary directory beside `path` for plain files, which replaces `path` durably when the block ends
    without an error; raises as `atomic_write` does.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        sync_tree(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
        _sync(path.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        fault = machine_problem(error, f"cannot write {path}")
        if fault is None:
            raise
        raise fault from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the file system became read-only, or the path is a directory
        return


def json_number(value: float) -> float | None:
    """Return a number as JSON can hold it: None if it is not finite."""
    return value if math.isfinite(value) else None


def write_text(path: Path, text: str) -> None:
    """Write a text file durably, in UTF-8."""
    with atomic_write(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Mapping[str, Any], indent: int | None = None, durable: bool = True) -> None:
    """Write a JSON object with its checksum."""
    text = json.dumps({**data, CHECKSUM: _content_hash(data)}, indent=indent)
    with atomic_write(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, hint: str = "", code: str = "SS601") -> dict[str, Any]:
    """Read a file that `write_json` wrote; raises DamagedFile with the code and hint if its content changed."""
    data = load_json(path, lambda reason: DamagedFile(path, reason, hint, code))
    expected = data.pop(CHECKSUM, None)
    if expected is not None and expected != _content_hash(data):
        raise DamagedFile(path, "its content does not match its checksum", hint, code)
    return data


def _content_hash(data: Mapping[str, Any]) -> str:
    # Through JSON and back, so that tuples and number keys hash as they will be read.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(data)), sort_keys=True).encode()).hexdigest()


def check_regular(path: Path) -> None:
    """Raise OSError for a pipe, a socket or a device, whose reading may never end, and for a missing file."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def load_json(path: Path, failure: Failure) -> dict[str, Any]:
    """Read the JSON object in a file of any origin; raises `failure(reason)` if it holds anything else."""
    try:
        check_regular(path)
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise failure(f"it has {path.stat().st_size:,} bytes, at most {MAX_DOCUMENT_BYTES:,} are read")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise failure(error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise failure(f"not JSON: {first_line(error)}") from None
    if not isinstance(data, dict):
        raise failure(f"expected a JSON object, got {type(data).__name__}")
    return data


def read_lines(path: Path, hint: str = "") -> list[tuple[dict[str, Any], bool]]:
    """Return the objects of a file of sealed lines, each with whether it has a checksum; [] if there is no file.

    A last line without its newline, left by a crash, is skipped. Lines of earlier versions have no checksum; they can
    only come first. Raises DamagedFile SS601 with the line number.
    """
    try:
        check_regular(path)
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DamagedFile(path, error.strerror or str(error), hint) from None
    entries: list[tuple[dict[str, Any], bool]] = []
    for number, line in enumerate(lines, 1):
        try:
            data, sealed = unseal(line.decode())
            if entries and entries[-1][1] and not sealed:
                raise ValueError("it has no checksum, and the line before has one")
        except (ValueError, RecursionError) as error:
            raise DamagedFile(Path(f"{path}:{number}"), first_line(error), hint) from None
        entries.append((data, sealed))
    return entries


def trim_torn_line(path: Path) -> None:
    """Drop the text after a file's last newline, left by a killed writer; does nothing if there is no such file."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0 or (file.seek(size - 1) and file.read(1) == b"\n"):
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


class LineWriter:
    """Appends sealed lines to a file: a killed process loses none, a crash of the machine those of `SYNC_SECONDS`.

    One writer at a time; the file's earlier content is not read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._synced, self._written = path, 0.0, 0

    def append(self, data: Mapping[str, Any]) -> None:
        """Append an object as a line.

        Raises EnvironmentProblem SS302, SS305 or SS312, and DamagedFile SS601 if lines written earlier are gone.
        """
        line = seal(json.dumps(data, separators=(",", ":"))) + "\n"
        due = time.monotonic() - self._synced > SYNC_SECONDS
        try:
            with self.path.open("ab") as file:
                if file.tell() < self._written:
                    hint = f"'sparsesearch resume {self.path.parent}' repeats the lost measurements."
                    raise DamagedFile(self.path, "it was cut or removed while the run wrote to it", hint)
                file.write(line.encode())
                self._written = file.tell()
                file.flush()
                if due:
                    os.fsync(file.fileno())
                    self._synced = time.monotonic()
        except OSError as error:
            raise machine_problem(error, f"cannot write {self.path}") or error from error


def sync_tree(directory: Path) -> None:
    """Sync a directory of plain files to disk: each file, then the directory itself."""
    for path in (*(p for p in directory.iterdir() if p.is_file()), directory):
        _sync(path)


def seal(body: str) -> str:
    """Return a line of JSON lines, without its newline: an object with a CRC-32 of itself as its last field.

    Args:
        body: the object as compact JSON; not empty.
    """
    return body[:-1] + _LINE_SUFFIX.format(zlib.crc32(body.encode()))


def unseal(line: str) -> tuple[dict[str, Any], bool]:
    """Return the object of a line and whether it has a checksum; raises ValueError if it is damaged or no object."""
    body, end = line[:-_LINE_END] + "}", line[-_LINE_END:]
    sealed = end.startswith(',"crc32":"')
    if sealed and end != _LINE_SUFFIX.format(zlib.crc32(body.encode())):
        raise ValueError("its content does not match its checksum")
    data = json.loads(body if sealed else line)
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")
    return data, sealed


def reserve_disk_space(path: Path, size: int) -> None:
    """Allocate a file's first `size` bytes on disk, creating the file if needed; raises EnvironmentProblem SS305.

    Writing to a memory map of a sparse file kills the process if the disk is full.
    """
    try:
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
    except OSError as error:
        raise machine_problem(error, f"cannot write {path}") or error from error


# Caches up to this size are hashed completely when they are opened, which takes about a second a gigabyte; of larger
# ones only file sizes are compared, except by `sparsesearch doctor RUN`.
MAX_HASHED_BYTES = 8 * 2**30


def inventory(directory: Path) -> dict[str, Any]:
    """Return the size in bytes and the SHA-256 of every file below a directory, by relative path."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(p.relative_to(directory)): {"bytes": p.stat().st_size, "sha256": file_hash(p)} for p in files}


def check_inventory(directory: Path, files: Mapping[str, Any], hint: str, thorough: bool = False) -> None:
    """Raise DamagedFile SS306 if a file is missing or has changed.

    Args:
        files: the result of `inventory`; `bytes` may be missing.
        thorough: compare contents however large the files are.
    """
    thorough = thorough or sum(entry.get("bytes", 0) for entry in files.values()) <= MAX_HASHED_BYTES
    for name, entry in files.items():
        path = directory / name
        try:
            same = path.stat().st_size == entry.get("bytes", path.stat().st_size)
            same = same and (not thorough or file_hash(path) == entry["sha256"])
        except OSError as error:
            raise DamagedFile(path, error.strerror or str(error), hint, "SS306") from None
        if not same:
            raise DamagedFile(path, "its content does not match its checksum", hint, "SS306")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
