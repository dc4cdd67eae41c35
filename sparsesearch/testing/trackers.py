"""Conformance of trackers: they show a run and leave its files unchanged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sparsesearch.runs.results import RunResults
from sparsesearch.tracking import follow, open_tracker
from sparsesearch.tracking.base import Point
from sparsesearch.tracking.following import Follower


def check_tracker(name: str, results: RunResults) -> None:
    """Check a registered tracker on a finished run, in whose directory it may write.

    A tracker names the location of its points; takes none, some or all points of a run; can be opened again for the
    same run; and changes none of the run's files.

    Raises AssertionError, InputError SS102, or EnvironmentProblem SS307 if its package is not installed.
    """
    path = results.run.path
    before = _contents(file for file in path.rglob("*") if file.is_file())
    points = Follower(path).new_points()
    assert points, f"{path} has no points; check a tracker on a finished run"
    count = follow(path, open_tracker(name, results), watch=False)
    assert count == len(points), f"it is given all {len(points)} points of the run, got {count}"

    again = open_tracker(name, results)
    assert isinstance(again.location, str) and again.location, f"`location` is no text, got {again.location!r}"
    portions: list[list[Point]] = [[], points[:1], points[1:]]
    for portion in portions:
        again.log(portion)
    again.close()
    assert _contents(before) == before, "the run's own files stay as they are"


def _contents(files: Iterable[Path]) -> dict[Path, bytes]:
    return {file: file.read_bytes() if file.exists() else b"" for file in files}
