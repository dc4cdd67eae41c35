"""A comparison in numbers: quality at each size and hypervolume over tokens and seconds, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from sparsesearch import pareto
from sparsesearch.arrays import Floats
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.workflows.compare import Checkpoint, Contender, checkpoints_of, judge
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.space import Genome, Space

# Of intervals over seeds.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Series:
    """One number of one searcher at every checkpoint.

    Attributes:
        tokens, seconds: means over seeds, (checkpoints,).
        mean, low, high: over seeds, (checkpoints,); nan where no seed had a value.
    """

    tokens: Floats
    seconds: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Comparison:
    """What compare shows.

    Attributes:
        quality: name of the quality.
        sizes: names of the sizes.
        at_size: for each size, a series for each searcher.
        volume: hypervolume of what was best at all sizes, where there are several, for each searcher.
    """

    quality: str
    sizes: list[str]
    at_size: dict[str, dict[str, Series]]
    volume: dict[str, Series]


def measured(
    launches: Mapping[Contender, Launch],
    found: Mapping[Contender, RunResults],
    sizes: Mapping[str, Space],
    tokens: int,
    judged: Path,
    reporter: Reporter,
) -> Comparison:
    """The numbers of finished runs; what was believed best at checkpoints is measured first.

    Args:
        sizes: spaces with the limit of each size, by name.
        tokens: the budget that every run had.
        judged: directory for these measurements.
    """
    first = next(iter(found.values()))
    # Costs of runs count the nonzeros that levels really have.
    spaces = {size: first.space.with_limits(space.limits) for size, space in sizes.items()}
    checkpoints = {c: checkpoints_of(launches[c], run, list(spaces.values()), tokens) for c, run in found.items()}
    genomes = {g for course in checkpoints.values() for point in course for g in point.best if g is not None}
    archive = judge(next(iter(launches.values())), first, genomes, judged, reporter)
    qualities = {genome: e.quality for (genome, *_), e in archive.entries.items()}
    return compared(checkpoints, qualities, {size: _share(space) for size, space in spaces.items()}, first.quality)


def _share(space: Space) -> float:
    """The share of dense that the last limit allows."""
    bound = space.bounds[-1]
    return float(bound.maximum / max(space.dense_costs[bound.cost], 1))


def compared(
    found: Mapping[Contender, Sequence[Checkpoint]],
    judged: Mapping[Genome, float],
    sizes: Mapping[str, float],
    quality: str,
) -> Comparison:
    """The numbers.

    Args:
        found: checkpoints of every run, equally many.
        judged: qualities on all selection data.
        sizes: the share of the dense cost that each size allows, by name.
    """
    values = {
        c: np.array([[np.nan if g is None else judged.get(g, np.nan) for g in point.best] for point in checkpoints])
        for c, checkpoints in found.items()
    }
    worst = max((float(np.nanmax(v)) for v in values.values() if np.isfinite(v).any()), default=1.0)
    reference = [worst * 1.1 + 1e-12, 1.1]
    names = list(dict.fromkeys(contender.name for contender in found))
    shares = np.array(list(sizes.values()))

    def series(name: str, of: dict[Contender, Floats]) -> Series:
        mine = [c for c in found if c.name == name]
        spent = np.array([[[m.tokens, m.seconds] for m in found[c]] for c in mine]).mean(axis=0)
        return Series(spent[:, 0], spent[:, 1], *interval(np.stack([of[c] for c in mine])))

    def volume(table: Floats) -> Floats:
        points = [[[q, share] for q, share in zip(row, shares, strict=True) if np.isfinite(q)] for row in table]
        return np.array([pareto.hypervolume(each, reference) if each else 0.0 for each in points])

    volumes = {c: volume(table) for c, table in values.items()}
    at_size = {
        size: {name: series(name, {c: table[:, i] for c, table in values.items()}) for name in names}
        for i, size in enumerate(sizes)
    }
    several = {name: series(name, volumes) for name in names} if len(sizes) > 1 else {}
    return Comparison(quality, list(sizes), at_size, several)


def interval(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean over seeds, and its bootstrap interval; values (seeds, checkpoints) -> three of (checkpoints,).

    With one seed the interval is the value itself. Where a seed has none, its checkpoint has none either.
    """
    mean = values.mean(axis=0)
    low, high = mean.copy(), mean.copy()
    for i, column in enumerate(values.T):
        if np.isfinite(column).all() and np.ptp(column) > 0:
            found = bootstrap((column,), np.mean, confidence_level=CONFIDENCE, method="percentile", rng=0)
            low[i], high[i] = found.confidence_interval
    return mean, low, high
