"""The archive: every evaluation ever made, one JSON line each, append-only and crash-safe.

No field depends on timing or on the number of workers, so equal runs write equal bytes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.errors import DamagedFile
from sparsesearch.files import LineWriter, file_hash, json_number, read_lines, trim_torn_line
from sparsesearch.searchers.records import ROLES, Evaluation, Request, role_of_origin
from sparsesearch.space import Genome, Space

# Remedy for a damaged line, for messages.
REMEDY = "Cut the file before this line and resume: later evaluations are measured again."
# Fields of a line beside its checksum.
FIELDS = {
    "role",
    "trained",
    "parents",
    "id",
    "genome",
    "sequences",
    "known",
    "draw",
    "origin",
    "status",
    "quality",
    "costs",
    "losses",
    "error",
}
STATUSES = ("ok", "failed", "invalid")


class Archive:
    """Reads all lines on opening and appends to the file; the run's lock allows one writer at a time."""

    def __init__(self, path: Path, writable: bool = False) -> None:
        """
        Args:
            writable: drop a torn last line, so that lines can be appended. Readers must not: a running controller may
                be writing that line.
        """
        self.path = path
        self.entries: dict[Request, Evaluation] = {}
        self.lines = 0
        self._writer = LineWriter(path)
        if writable:
            trim_torn_line(path)
        for data, sealed in read_lines(path, REMEDY):
            self.lines += 1
            evaluation = self._parse(data, sealed)
            self.entries[evaluation.request] = evaluation

    def _parse(self, data: dict[str, Any], sealed: bool) -> Evaluation:
        try:
            if unknown := set(data) - FIELDS if not sealed else ():
                raise ValueError(f"unknown field {min(unknown)!r}")
            return from_json(data)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise DamagedFile(Path(f"{self.path}:{self.lines}"), f"{type(error).__name__} {error}", REMEDY) from None

    def check(self, space: Space, lines: int = 0) -> None:
        """Raise DamagedFile SS601 if a genome does not fit the space, or lines are missing.

        Args:
            lines: number of lines that the file had when a session ended.
        """
        if self.lines < lines:
            raise DamagedFile(
                self.path,
                f"{self.lines} of {lines} lines are left",
                f"'sparsesearch resume {self.path.parent}' measures the rest again.",
            )
        counts = np.array([len(unit.levels) for unit in space.units])
        for evaluation in self.entries.values():
            levels = evaluation.genome.levels
            if len(levels) != len(counts) or not ((levels >= 0) & (levels < counts)).all():
                reason = f"genome {evaluation.genome.id} does not fit the run's space"
                raise DamagedFile(self.path, reason, "Take its lines out and resume.")

    def append(self, evaluation: Evaluation) -> None:
        """Append an evaluation; raises as `LineWriter.append`."""
        self._writer.append(to_json(evaluation))
        self.entries[evaluation.request] = evaluation
        self.lines += 1

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        return file_hash(self.path)


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the line of an evaluation; numbers that are not finite become null."""
    role = "" if evaluation.role == role_of_origin(evaluation.origin) else evaluation.role
    optional = {"trained": evaluation.trained, "parents": list(evaluation.parents), "role": role}
    return {name: value for name, value in optional.items() if value} | {
        "id": evaluation.genome.id,
        "genome": evaluation.genome.levels.tolist(),
        "sequences": evaluation.sequences,
        "known": evaluation.known,
        "draw": evaluation.draw,
        "origin": evaluation.origin,
        "status": evaluation.status,
        "quality": json_number(evaluation.quality),
        "costs": evaluation.costs,
        "losses": [json_number(loss) for loss in evaluation.losses],
        "error": evaluation.error,
    }


def from_json(data: dict[str, Any]) -> Evaluation:
    """Return the evaluation of a line; null becomes nan. Raises ValueError, KeyError or TypeError for other content."""
    genome = Genome.of(_list(data, "genome", int))
    if data["id"] != genome.id:
        raise ValueError(f"id {data['id']!r} is not that of the genome")
    if data["status"] not in STATUSES:
        raise ValueError(f"status {data['status']!r}")
    if data.get("role", ROLES[0]) not in ROLES:
        raise ValueError(f"role {data['role']!r}")
    origin = _typed(data["origin"], str, "origin")
    costs = _typed(data["costs"], dict, "costs")
    losses = _list(data, "losses", int, float, type(None))
    return Evaluation(
        genome=genome,
        sequences=_typed(data["sequences"], int, "sequences"),
        draw=_typed(data["draw"], int, "draw"),
        origin=origin,
        role=data.get("role", role_of_origin(origin)),
        status=data["status"],
        quality=math.nan if data["quality"] is None else float(data["quality"]),
        costs={_typed(name, str, "costs"): _typed(value, int, "costs") for name, value in costs.items()},
        losses=tuple(math.nan if x is None else x for x in losses),
        error=_typed(data["error"], str, "error"),
        known=_typed(data["known"], int, "known"),
        trained=_typed(data.get("trained", 0), int, "trained"),
        parents=tuple(_list(data, "parents", str)) if "parents" in data else (),
    )


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def _list(data: dict[str, Any], name: str, *kinds: type) -> list[Any]:
    values = _typed(data[name], list, name)
    if invalid := [value for value in values if not isinstance(value, kinds) or isinstance(value, bool)]:
        raise TypeError(f"{name}: {invalid[0]!r} has the wrong type")
    return list(values)
