"""The run directory: its files and its lock.

run.yaml        resolved configuration            space.json      units, levels, exact costs
run.json        fingerprint, versions, dense      archive.jsonl   every evaluation (the truth)
screen.json     scores of a proxy's table, and its agreement with measurements
seeds.json      genomes of allocations            generations.jsonl  reports of the searcher on its own state
data/           the samples that were used        ledger.jsonl    seconds spent, one line a phase
trained.jsonl   evaluations after training        trials/         checkpoints and weights of trained candidates
learning/       checkpoints and results of searches by gradient
workers.json    memory of workers, and use of their kept hidden states
progress.json   state of the controller, or how it ended
latency.json    latency table                     latency_measured.json  latencies of the finalists
exports.jsonl   exported models
failures.jsonl  tracebacks of candidates that could not be measured
front.json      derived from the files above, like report.html, *.png and test.json
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from sparsesearch.errors import (
    DamagedFile,
    SparseSearchError,
    first_line,
    machine_problem,
    problem,
)
from sparsesearch.files import (
    LineWriter,
    atomic_write_tree,
    check_regular,
    read_json,
    read_lines,
    trim_torn_line,
    write_json,
    write_text,
)
from sparsesearch.runs.cache import Cache
from sparsesearch.runs.schemas import check_lines, sound
from sparsesearch.space import Space

if TYPE_CHECKING:
    from sparsesearch.data.samples import Samples

# File beside samples with their checksum.
DIGEST = "digest.json"
_CHECKSUM_LINE = "# sha256: "
_SAMPLES_HINT = "Resume the run: samples are read from their source again."


class RunDirectory:
    """Paths and small JSON files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writers: dict[Path, LineWriter] = {}
        self._samples: dict[str, Samples] = {}
        self.config = path / "run.yaml"
        self.space = path / "space.json"
        self.info = path / "run.json"
        self.archive = path / "archive.jsonl"
        self.ledger = path / "ledger.jsonl"
        self.generations = path / "generations.jsonl"
        self.workers = path / "workers.json"
        self.progress = path / "progress.json"
        self.latency = path / "latency.json"
        self.latency_measured = path / "latency_measured.json"
        self.exports = path / "exports.jsonl"
        self.front = path / "front.json"
        self.screen = path / "screen.json"
        self.seeds = path / "seeds.json"
        self.test = path / "test.json"
        self.data = path / "data"
        self.trained = path / "trained.jsonl"
        self.trials = path / "trials"
        self.learning = path / "learning"
        self.failures = path / "failures.jsonl"
        self.cache = Cache(path.parent / ".cache")

    @staticmethod
    def is_there(path: Path) -> bool:
        """Return whether a directory holds a run, or the archive of one."""
        return (path / "run.yaml").exists() or (path / "archive.jsonl").exists()

    @classmethod
    def check_new(cls, path: Path) -> None:
        """Raise InputError SS303 if a directory holds a run already, or the archive of one."""
        if cls.is_there(path):
            raise problem(
                "SS303",
                f"{path} exists{_progress(path)}.",
                fix=f"Use 'sparsesearch resume {path}', or another name (--name).",
            )

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """Make a new run directory; raises InputError SS303 or EnvironmentProblem SS302 (not writable)."""
        cls.check_new(path)
        run = cls(path.resolve())
        run.make()
        return run

    def make(self) -> None:
        """Make the directory if it does not exist; raises EnvironmentProblem SS302."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise machine_problem(error, f"cannot write to {self.path}") or error from None

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run directory; raises InputError SS600, DamagedFile SS601 if its `run.yaml` is damaged."""
        if not (path / "run.yaml").exists():
            hint = cls(path).mending if (path / "archive.jsonl").exists() else "Runs are made by 'search'."
            raise problem("SS600", f"{path} is not a run directory (no run.yaml).", fix=hint)
        run = cls(path.resolve())
        run.check_config()
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock while the block runs; raises EnvironmentProblem SS304 if another controller holds it.

        The operating system releases the lock when the process ends, however that ends.
        """
        owner = self.path / "run.lock.owner"
        lock = FileLock(self.path / "run.lock", timeout=0)
        try:
            lock.acquire()
            owner.write_text(f"pid {os.getpid()} on {socket.gethostname()}")
        except Timeout:
            process = (owner.read_text(errors="replace") if owner.exists() else "") or "unknown process"
            raise problem("SS304", f"run {self.path} is active: {process}.", fix="Wait for it or stop it.") from None
        except OSError as error:
            owner.unlink(missing_ok=True)
            lock.release()
            raise machine_problem(error, f"cannot write to {self.path}") or error from None
        try:
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    def holder(self) -> str | None:
        """Return the process that holds the run's lock, as `pid 12 on HOST`; None if none does. Changes no file."""
        try:
            owner = (self.path / "run.lock.owner").read_text(errors="replace")
        except OSError:
            return None
        process = re.fullmatch(r"pid (\d+) on (.*)", owner)
        if process and process[2] == socket.gethostname() and not is_alive(int(process[1])):
            return None
        # The number may be another process's by now, and processes of other machines are only visible by their locks.
        # So a shared lock is taken for a moment, but only if an owner is named.
        try:
            with (self.path / "run.lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return owner
        except OSError:  # the lock is gone or cannot be opened
            return None
        return None

    def write(self, path: Path, data: dict[str, Any]) -> None:
        """Write a JSON object durably, with its checksum."""
        write_json(path, data, indent=1)

    def write_front(self, data: dict[str, Any]) -> None:
        """Write the content that `front --json` prints; nothing reads it back."""
        write_text(self.front, json.dumps(data, indent=1))

    def write_config(self, text: str) -> None:
        """Write `run.yaml` with a checksum in its first line; its presence makes the directory a run."""
        write_text(self.config, f"{_CHECKSUM_LINE}{_text_hash(text)}\n{text}")

    def check_config(self) -> None:
        """Raise DamagedFile SS601 if `run.yaml` is not as it was written."""
        try:
            check_regular(self.config)
            first, _, text = self.config.read_bytes().decode().partition("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DamagedFile(self.config, first_line(error), self.mending) from None
        if not first and not text:
            raise DamagedFile(self.config, "it is empty", self.mending)
        # Files of earlier versions, and files changed on purpose, have no such comment.
        if first.startswith(_CHECKSUM_LINE[0]) and first != _CHECKSUM_LINE + _text_hash(text):
            raise DamagedFile(
                self.config,
                "its content does not match its first line",
                f"If it was changed on purpose, delete that line; else: {self.mending}",
            )

    @property
    def mending(self) -> str:
        """Remedy for a damaged or missing small file of the run, for messages."""
        return f"'sparsesearch resume {self.path} --recipe SPACE.yaml' writes it anew from the recipe and the archive."

    def read(self, path: Path) -> dict[str, Any]:
        """Read a JSON file of the run; raises InputError SS600 if it does not exist yet, DamagedFile SS601."""
        if not path.exists():
            raise problem(
                "SS600",
                f"{self.path} has no {path.name} yet.",
                fix=f"Use 'sparsesearch resume {self.path}' to continue.",
            )
        return read_json(path, self.mending if path in (self.info, self.space) else f"Delete {path}, then resume.")

    def append(self, path: Path, data: dict[str, Any]) -> None:
        """Append a line to the ledger, generations, exports or failures; raises as `LineWriter.append`."""
        trim_torn_line(path)
        self._writers.setdefault(path, LineWriter(path)).append(data)

    def lines(self, path: Path, least: int = 0) -> list[dict[str, Any]]:
        """Return the lines of such a file, without one that a crash tore.

        Args:
            least: number of lines that the file had when a session ended.

        Raises DamagedFile SS601 for a damaged line, or if lines are missing.
        """
        hint = "Delete this line, whose content is lost, and resume."
        lines = [data for data, _ in read_lines(path, hint)]
        check_lines(path, lines, hint)
        if len(lines) < least:
            hint = f"'sparsesearch resume {self.path}' continues with these."
            raise DamagedFile(path, f"{len(lines)} of {least} lines are left", hint)
        return lines

    def line_counts(self) -> dict[str, int]:
        """Return the number of lines of each existing file of lines, by its name."""
        files = (self.archive, self.trained, self.ledger, self.generations, self.exports)
        return {path.name: path.read_bytes().count(b"\n") for path in files if path.exists()}

    def samples(self, role: str) -> Samples:
        """Return the samples of a role, memory-mapped; they are compared with their checksum once.

        Raises DamagedFile SS601.
        """
        if role not in self._samples:
            self._samples[role] = self._read_samples(role)
        return self._samples[role]

    def _read_samples(self, role: str) -> Samples:
        from sparsesearch.data.samples import Samples  # samples are numpy arrays, but the package imports torch

        samples, expected = Samples.load(self.data / role), self._digest_of(role)
        if expected is not None and samples.digest != expected:
            raise DamagedFile(self.data / role, "its samples do not match their checksum", _SAMPLES_HINT)
        return samples

    def _digest_of(self, role: str) -> str | None:
        """Return the SHA-256 of the samples that were written under a name; None if an earlier version wrote none."""
        path = self.data / role / DIGEST
        if path.exists():
            return str(read_json(path, _SAMPLES_HINT)["sha256"])
        digest: str | None = self.read(self.info)["fingerprint"].get(f"data.{role}") if self.info.exists() else None
        return digest

    def keep(self, role: str, samples: Samples) -> str:
        """Write samples of a role, unless they are stored intact; returns the name of their directory.

        The run's own samples have the name of their role; others, for recovery, have a digest behind it.
        """
        digest = samples.digest
        if (self.data / role).exists() and self._digest_of(role) not in (None, digest):
            role = f"{role}-{digest[:12]}"
        target = self.data / role
        with suppress(SparseSearchError):
            if target.exists() and self._read_samples(role).digest == digest:
                return role
        self._samples.pop(role, None)
        with atomic_write_tree(target) as temporary:
            samples.save(temporary)
            write_json(temporary / DIGEST, {"sha256": digest})
        return role

    def read_space(self) -> Space:
        """Return the run's units, levels and costs; raises InputError SS600 or DamagedFile SS601."""
        data = self.read(self.space)
        with sound(self.space, self.mending):
            return Space.from_json(data)


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def check_vacant(out: Path) -> None:
    """Raise InputError SS500 if a directory cannot be written because a file, other files or a dead link are there.

    Raises InputError SS126 or EnvironmentProblem if the path itself is impossible.
    """
    try:
        if out.is_symlink() and not out.exists():
            raise problem("SS500", f"{out} is a link that leads nowhere.", fix="Choose another directory (--out).")
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise problem("SS500", f"{out} exists and is not empty.", fix="Choose another directory (--out).")
    except OSError as error:
        raise machine_problem(error, f"cannot write {out}") or error from None


def is_alive(pid: int) -> bool:
    """Return whether this machine has a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        return True
    return True


def _progress(path: Path) -> str:
    """Return ` (N evaluations)` for a run with an archive, else an empty text."""
    archive = path / "archive.jsonl"
    if not archive.exists():
        return ""
    with archive.open("rb") as file:
        return f" ({sum(1 for _ in file)} evaluations)"
