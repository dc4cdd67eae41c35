"""Reads points from a run, once or until it ends."""

from __future__ import annotations

import time
from pathlib import Path

from sparsesearch.report.series import SearchSeries, evaluation_rates
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.results import RunResults
from sparsesearch.tracking.base import Point, Tracker

# Seconds between two reads of a running search.
SECONDS_BETWEEN_READS = 5.0
# Keys of a line of generations.jsonl that are counters, not reported values.
COUNTERS = ("generation", "evaluations", "tokens")


class Follower:
    """Returns each point of a run once."""

    def __init__(self, path: Path) -> None:
        self._path, self._series = path, SearchSeries(RunResults(path))
        self._rates = self._generations = 0

    def new_points(self) -> list[Point]:
        """Return the points since the last call: evaluations, their rates, and values that the searcher reports."""
        results, series = RunResults(self._path), self._series
        new = enumerate(results.evaluations[series.evaluations :], series.evaluations + 1)
        points = [Point(number, series.add(evaluation)) for number, evaluation in new]
        rates = evaluation_rates(results.lines(results.run.ledger))
        points += [Point(n, {"evaluations_per_second": rate}) for n, rate in rates[self._rates :]]
        lines = results.lines(results.run.generations)
        for line in lines[self._generations :]:
            values = {f"searcher/{name}": value for name, value in line.items() if name not in COUNTERS}
            points.append(Point(int(line["evaluations"]), values))
        self._rates, self._generations = len(rates), len(lines)
        return points


def follow(path: Path, tracker: Tracker, watch: bool) -> int:
    """Log all points of a run, with `watch` until no process works on it any more; return their number."""
    follower, run, count = Follower(path), RunDirectory.open(path), 0
    try:
        while True:
            # Checked before reading, so that the last read includes everything written before the lock was released.
            ended = not watch or run.holder() is None
            points = follower.new_points()
            tracker.log(points)
            count += len(points)
            if ended:
                return count
            time.sleep(SECONDS_BETWEEN_READS)
    finally:
        tracker.close()
