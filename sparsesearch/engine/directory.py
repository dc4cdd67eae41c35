"""The run directory: its files, its lock, and what it says about a run.

run.yaml        resolved configuration            space.json      units, levels, exact costs
run.json        fingerprint, versions, dense      archive.jsonl   every evaluation (the truth)
screen.json     scores of a proxy's table, and how it agreed with measurements
seeds.json      genomes of allocations            generations.jsonl  what the searcher learned about searching
data/           the samples that were used        ledger.jsonl    seconds spent, a line a phase
trained.jsonl   evaluations after training        trials/         checkpoints and weights of what was trained
learning/       checkpoints and results of what searches by gradient learn
workers.json    memory of workers, and how often their kept hidden states served
progress.json   what the controller is doing, or how it ended
latency.json    the table that latencies come from; latency_measured.json what finalists took
exports.jsonl   what was exported
front.json      derived, like report.html, *.png and test.json
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from sparsesearch.errors import EnvironmentProblem, InputError
from sparsesearch.space import Space

if TYPE_CHECKING:
    from sparsesearch.calibration.samples import Samples


class RunDirectory:
    """Paths and small JSON files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
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

    @classmethod
    def check_new(cls, path: Path) -> None:
        """Raise InputError SS303 where there is a run already."""
        if (path / "run.yaml").exists():
            raise InputError(
                "SS303", f"{path} exists{_progress(path)}.", f"Use 'sparsesearch resume {path}', or another --name."
            )

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """Make a new run directory; raises InputError SS303 or EnvironmentProblem SS302 (not writable)."""
        cls.check_new(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentProblem("SS302", f"cannot write to {path}: {error.strerror}.") from None
        return cls(path.resolve())

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run directory; raises InputError SS600."""
        if not (path / "run.yaml").exists():
            raise InputError("SS600", f"{path} is not a run directory (no run.yaml).", "Runs are made by 'search'.")
        return cls(path.resolve())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock; raises EnvironmentProblem SS304 where another controller does.

        The lock is the operating system's, so it ends with its process, however that ends.
        """
        owner = self.path / "run.lock.owner"
        lock = FileLock(self.path / "run.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            who = owner.read_text() if owner.exists() else "unknown process"
            raise EnvironmentProblem("SS304", f"run {self.path} is active: {who}.", "Wait for it or stop it.") from None
        try:
            owner.write_text(f"pid {os.getpid()} on {socket.gethostname()}")
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    def holder(self) -> str | None:
        """Who holds the run's lock, as `pid 12 on HOST`; None where nobody does. For processes that only look."""
        try:
            who = (self.path / "run.lock.owner").read_text()
        except FileNotFoundError:
            return None
        found = re.fullmatch(r"pid (\d+) on (.*)", who)
        if found and found[2] == socket.gethostname() and not _lives(int(found[1])):
            return None
        # Another process may have that number by now, and of other machines' processes only locks can tell. A shared
        # lock is asked for, and given back at once, only where such an owner was named.
        with (self.path / "run.lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return who
        return None

    def write(self, path: Path, data: Any) -> None:
        """Write JSON through a temporary file."""
        self._write_text(path, json.dumps(data, indent=1))

    def write_config(self, text: str) -> None:
        """Write `run.yaml`; its presence is what makes the directory a run."""
        self._write_text(self.config, text)

    def _write_text(self, path: Path, text: str) -> None:
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(text)
        temporary.replace(path)

    def read(self, path: Path) -> Any:
        """Read a JSON file of the run; raises InputError SS600 where it is not there yet."""
        if not path.exists():
            raise InputError(
                "SS600", f"{self.path} has no {path.name} yet.", f"Use 'sparsesearch resume {self.path}' to go on."
            )
        return json.loads(path.read_text())

    def append(self, path: Path, data: Any) -> None:
        """Add a line of JSON to a file."""
        with path.open("a") as file:
            file.write(json.dumps(data) + "\n")

    def lines(self, path: Path) -> list[dict[str, Any]]:
        """The lines of such a file; what a crash tore is left out."""
        found = []
        for line in path.read_text().splitlines() if path.exists() else []:
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def samples(self, role: str) -> Samples:
        """The samples of `calibration`, `selection` or `test`, memory-mapped."""
        from sparsesearch.calibration.samples import Samples  # numpy arrays here, but torch comes with the room

        return Samples.load(self.data / role)

    def keep(self, role: str, samples: Samples) -> str:
        """The name under which samples of a role lie here; they are written where they do not yet.

        The run's own have the name of their role; other ones, that it is recovered on, a digest behind it.
        """
        own = self.data / role
        if own.exists() and self.samples(role).digest != samples.digest:
            role = f"{role}-{samples.digest[:12]}"
        if not (self.data / role).exists():
            temporary = self.data / f"{role}.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            samples.save(temporary)
            temporary.rename(self.data / role)
        return role

    def read_space(self) -> Space:
        return Space.from_json(self.read(self.space))


def check_vacant(out: Path) -> None:
    """Raise InputError SS500 where something is in the way of a directory to write: a file, or one with files."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("SS500", f"{out} exists and is not empty.", "Choose another --out.")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _progress(path: Path) -> str:
    archive = path / "archive.jsonl"
    if not archive.exists():
        return ""
    with archive.open("rb") as file:
        return f" ({sum(1 for _ in file)} evaluations)"
