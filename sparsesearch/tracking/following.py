"""Reading points from a run, once or for as long as it goes on."""

from __future__ import annotations

import time
from pathlib import Path

from sparsesearch.report.series import Series, per_second
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.results import RunResults
from sparsesearch.tracking.base import Point, Tracker

# Seconds between two looks at a running search.
INTERVAL = 5.0
# What a line of generations.jsonl counts by, not what it reports.
COUNTS = ("generation", "evaluations", "tokens")


class Follower:
    """Gives each point of a run once, whenever it is asked."""

    def __init__(self, path: Path) -> None:
        self._path, self._series = path, Series(RunResults(path))
        self._rates = self._generations = 0

    def new(self) -> list[Point]:
        """What there is since the last time: of evaluations, of their pace, and of what the searcher says of itself."""
        results, series = RunResults(self._path), self._series
        new = enumerate(results.evaluations[series.evaluations :], series.evaluations + 1)
        points = [Point(number, series.add(evaluation)) for number, evaluation in new]
        rates = per_second(results.lines(results.run.ledger))
        points += [Point(n, {"evaluations_per_second": rate}) for n, rate in rates[self._rates :]]
        lines = results.lines(results.run.generations)
        for line in lines[self._generations :]:
            said = {f"searcher/{name}": value for name, value in line.items() if name not in COUNTS}
            points.append(Point(int(line["evaluations"]), said))
        self._rates, self._generations = len(rates), len(lines)
        return points


def follow(path: Path, tracker: Tracker, watch: bool) -> int:
    """Give a tracker all points of a run, with `watch` until nobody works on it any more; how many there were."""
    follower, run, count = Follower(path), RunDirectory.open(path), 0
    try:
        while True:
            # Asked first: what is written before the lock is free is then read once more.
            ended = not watch or run.holder() is None
            points = follower.new()
            tracker.log(points)
            count += len(points)
            if ended:
                return count
            time.sleep(INTERVAL)
    finally:
        tracker.close()
