"""Files that are written whole or not at all, and readers that turn whatever is wrong with a file into one line.

What a run needs to resume is written durably: the file's bytes are on disk before its name is, and its directory after.
JSON documents carry a checksum of their content under `checksum`, safetensors files one in their metadata, lines of
JSON one as their last field; files without, of earlier versions, are read as they are.
"""

from __future__ import annotations

import errno
import hashlib
import json
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
# Bytes of a JSON document of somebody else's (config.json, tokenizer.json, a manifest) that are still read.
LARGEST_DOCUMENT = 2**28
# Seconds between two times that a file of lines is forced to disk.
SYNC = 0.1
# Turns the reason why a file cannot be read into the error that its reader raises.
Failure = Callable[[str], SparseSearchError]


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` to write to, which takes its place when the block ends well.

    Args:
        durable: sync file and directory, so that a power cut leaves the old file or the whole new one.

    Raises EnvironmentProblem SS302 or SS305 if it cannot be written; nothing is left behind then.
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
def replacing_tree(path: Path) -> Iterator[Path]:
    """A new temporary directory beside `path` for plain files, which takes its place durably when the block ends well.

    Raises as `replacing` does.
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
    except OSError:  # read-only by now, or no file at all
        return


def write_text(path: Path, text: str) -> None:
    """Write a text file durably, in UTF-8."""
    with replacing(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Mapping[str, Any], indent: int | None = None, durable: bool = True) -> None:
    """Write a JSON object with its checksum."""
    text = json.dumps({**data, CHECKSUM: _content_hash(data)}, indent=indent)
    with replacing(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, hint: str = "", code: str = "SS601") -> dict[str, Any]:
    """What `write_json` wrote; raises DamagedFile with the code and hint if it is not that any more."""
    data = load_json(path, lambda reason: DamagedFile(path, reason, hint, code))
    expected = data.pop(CHECKSUM, None)
    if expected is not None and expected != _content_hash(data):
        raise DamagedFile(path, "its content does not match its checksum", hint, code)
    return data


def _content_hash(data: Mapping[str, Any]) -> str:
    # What JSON makes of the data, so that tuples and number keys hash as they are read back.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(data)), sort_keys=True).encode()).hexdigest()


def check_regular(path: Path) -> None:
    """Raise OSError for a pipe, a socket or a device, whose reading may never end, and for what is not there."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def load_json(path: Path, failure: Failure) -> dict[str, Any]:
    """The JSON object in a file of anybody's; raises `failure(reason)` for whatever else it holds."""
    try:
        check_regular(path)
        if path.stat().st_size > LARGEST_DOCUMENT:
            raise failure(f"it has {path.stat().st_size:,} bytes, at most {LARGEST_DOCUMENT:,} are read")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise failure(error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or lists in lists in lists
        raise failure(f"not JSON: {first_line(error)}") from None
    if not isinstance(data, dict):
        raise failure(f"expected a JSON object, got {type(data).__name__}")
    return data


def read_lines(path: Path, hint: str = "") -> list[tuple[dict[str, Any], bool]]:
    """The objects of a file of sealed lines and whether each has a checksum; a last line without its newline, which a
    crash tore, is left out. A file that is not there has none.

    Lines of earlier versions have no checksum; they can only come first. Raises DamagedFile SS601 with the line number.
    """
    try:
        check_regular(path)
        whole = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DamagedFile(path, error.strerror or str(error), hint) from None
    found: list[tuple[dict[str, Any], bool]] = []
    for number, line in enumerate(whole, 1):
        try:
            data, sealed = unseal(line.decode())
            if found and found[-1][1] and not sealed:
                raise ValueError("it has no checksum, and the line before has one")
        except (ValueError, RecursionError) as error:
            raise DamagedFile(Path(f"{path}:{number}"), first_line(error), hint) from None
        found.append((data, sealed))
    return found


def trim_torn_line(path: Path) -> None:
    """Drop what follows the last newline of a file, a line whose writer was killed; what is no file is left alone."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0 or (file.seek(size - 1) and file.read(1) == b"\n"):
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


class LineWriter:
    """Adds sealed lines to a file: a killed process loses none, a crash of the machine at most `SYNC` seconds of them.

    One writer at a time; it does not look at what is in the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._synced, self._written = path, 0.0, 0

    def append(self, data: Mapping[str, Any]) -> None:
        """Add an object as a line.

        Raises EnvironmentProblem SS302, SS305 or SS312, DamagedFile SS601 if lines that it added are gone.
        """
        line = seal(json.dumps(data, separators=(",", ":"))) + "\n"
        due = time.monotonic() - self._synced > SYNC
        try:
            with self.path.open("ab") as file:
                if file.tell() < self._written:
                    hint = f"'sparsesearch resume {self.path.parent}' measures again what is gone."
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
    """Put a directory of plain files on disk: each file, then the directory itself."""
    for path in (*(p for p in directory.iterdir() if p.is_file()), directory):
        _sync(path)


def seal(body: str) -> str:
    """A line of JSON lines, without its newline: an object with a CRC-32 of itself as its last field.

    Args:
        body: the object as compact JSON; not empty.
    """
    return body[:-1] + _LINE_SUFFIX.format(zlib.crc32(body.encode()))


def unseal(line: str) -> tuple[dict[str, Any], bool]:
    """The object of a line, and whether it has a checksum; raises ValueError if it is no such object or damaged."""
    body, end = line[:-_LINE_END] + "}", line[-_LINE_END:]
    sealed = end.startswith(',"crc32":"')
    if sealed and end != _LINE_SUFFIX.format(zlib.crc32(body.encode())):
        raise ValueError("its content does not match its checksum")
    data = json.loads(body if sealed else line)
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")
    return data, sealed


def reserve(path: Path, size: int) -> None:
    """Take the disk space of a file's first `size` bytes, making it if it is not there.

    A memory map of a file with holes kills its process if the disk is full when it is written to. Raises
    EnvironmentProblem SS305.
    """
    try:
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
    except OSError as error:
        raise machine_problem(error, f"cannot write {path}") or error from error


# Bytes of a cache up to which all of it is read when it is opened, a second or so for each gigabyte; of larger ones
# only sizes are compared, unless all is asked for (`sparsesearch doctor RUN`).
READ_WHOLE = 8 * 2**30


def inventory(directory: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of every file below a directory, by relative path."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(p.relative_to(directory)): {"bytes": p.stat().st_size, "sha256": file_hash(p)} for p in files}


def check_inventory(directory: Path, files: Mapping[str, Any], hint: str, thorough: bool = False) -> None:
    """Raise DamagedFile SS306 if a file is missing or not what it was.

    Args:
        files: what `inventory` gave; `bytes` may be missing.
        thorough: compare the content of files of any size.
    """
    thorough = thorough or sum(entry.get("bytes", 0) for entry in files.values()) <= READ_WHOLE
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
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
