"""A comparison of searchers: quality at each size and hypervolume over tokens and seconds, with their intervals."""

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

# Confidence level of intervals over seeds.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SeedSeries:
    """A number of one searcher at every checkpoint, over its seeds.

    Attributes:
        tokens, seconds: means over seeds, (checkpoints,).
        mean, low, high: mean over seeds and its interval, (checkpoints,); nan if a seed has no value.
    """

    tokens: Floats
    seconds: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Comparison:
    """The numbers of a comparison.

    Attributes:
        quality: name of the quality.
        sizes: names of the sizes.
        at_size: best quality at each size, by size and searcher.
        volume: hypervolume of the best candidates of all sizes, by searcher; empty for a single size.
    """

    quality: str
    sizes: list[str]
    at_size: dict[str, dict[str, SeedSeries]]
    volume: dict[str, SeedSeries]


def compare_results(
    launches: Mapping[Contender, Launch],
    results: Mapping[Contender, RunResults],
    sizes: Mapping[str, Space],
    tokens: int,
    directory: Path,
    reporter: Reporter,
) -> Comparison:
    """Compare finished runs; the candidates that looked best at checkpoints are measured on all selection data first.

    Args:
        sizes: spaces with the limit of each size, by name.
        tokens: token budget of every run.
        directory: directory for these measurements.
    """
    first = next(iter(results.values()))
    # The spaces of runs have the real nonzeros of levels in their costs.
    spaces = {size: first.space.with_limits(space.limits) for size, space in sizes.items()}
    checkpoints = {c: checkpoints_of(launches[c], run, list(spaces.values()), tokens) for c, run in results.items()}
    genomes = {g for course in checkpoints.values() for point in course for g in point.best if g is not None}
    archive = judge(next(iter(launches.values())), first, genomes, directory, reporter)
    qualities = {genome: e.quality for (genome, *_), e in archive.entries.items()}
    shares = {size: _share(space) for size, space in spaces.items()}
    return build_comparison(checkpoints, qualities, shares, first.quality)


def _share(space: Space) -> float:
    """Return the share of the dense cost that the last limit allows."""
    bound = space.bounds[-1]
    return float(bound.maximum / max(space.dense_costs[bound.cost], 1))


def build_comparison(
    checkpoints: Mapping[Contender, Sequence[Checkpoint]],
    qualities: Mapping[Genome, float],
    sizes: Mapping[str, float],
    quality: str,
) -> Comparison:
    """Compute the numbers of a comparison.

    Args:
        checkpoints: every run at its checkpoints, equally many for all runs.
        qualities: qualities of genomes on all selection data.
        sizes: share of the dense cost that each size allows, by name.
        quality: name of the quality.
    """
    values = {
        c: np.array([[np.nan if g is None else qualities.get(g, np.nan) for g in point.best] for point in course])
        for c, course in checkpoints.items()
    }
    worst = max((float(np.nanmax(v)) for v in values.values() if np.isfinite(v).any()), default=1.0)
    reference = [worst * 1.1 + 1e-12, 1.1]
    names = list(dict.fromkeys(contender.name for contender in checkpoints))
    shares = np.array(list(sizes.values()))

    def series(name: str, numbers: dict[Contender, Floats]) -> SeedSeries:
        seeds = [c for c in checkpoints if c.name == name]
        spent = np.array([[[m.tokens, m.seconds] for m in checkpoints[c]] for c in seeds]).mean(axis=0)
        return SeedSeries(spent[:, 0], spent[:, 1], *interval(np.stack([numbers[c] for c in seeds])))

    def volume(table: Floats) -> Floats:
        fronts = [[[q, share] for q, share in zip(row, shares, strict=True) if np.isfinite(q)] for row in table]
        return np.array([pareto.hypervolume(front, reference) if front else 0.0 for front in fronts])

    volumes = {c: volume(table) for c, table in values.items()}
    at_size = {
        size: {name: series(name, {c: table[:, i] for c, table in values.items()}) for name in names}
        for i, size in enumerate(sizes)
    }
    volume_series = {name: series(name, volumes) for name in names} if len(sizes) > 1 else {}
    return Comparison(quality, list(sizes), at_size, volume_series)


def interval(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the mean over seeds and the ends of its bootstrap interval, (checkpoints,) each.

    With one seed the interval is the value itself. All three are nan at checkpoints where a seed has no value.

    Args:
        values: (seeds, checkpoints).
    """
    mean = values.mean(axis=0)
    low, high = mean.copy(), mean.copy()
    for i, column in enumerate(values.T):
        if np.isfinite(column).all() and np.ptp(column) > 0:
            result = bootstrap((column,), np.mean, confidence_level=CONFIDENCE, method="percentile", rng=0)
            low[i], high[i] = result.confidence_interval
    return mean, low, high
