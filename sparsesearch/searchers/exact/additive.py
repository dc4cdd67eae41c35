"""The additive model: the rise of the loss at each level of each unit, with all other units dense.

The rise of the loss of several pruned units is predicted as the sum (rate-distortion pruning, Xu et al., ICCV 2023;
ZipLM, Kurtic et al., 2023). Errors of the sum are left for a search to correct.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from sparsesearch.arrays import Floats
from sparsesearch.searchers.records import Evaluation, Proposal
from sparsesearch.space import Genome, Space

# For each unit its harm: the predicted rise of the loss at each of its levels, (levels,), >= 0, and 0 at level 0.
Table = list[Floats]


def probes(space: Space, levels: int) -> list[Genome]:
    """Return genomes with one unit pruned, at up to `levels` of its levels, evenly spread and always its last."""
    genomes = []
    for unit, top in enumerate(space.max_levels):
        unit_levels = sorted({int(level) for level in np.linspace(0, top, levels + 1)[1:].round()} - {0})
        genomes += [_one_pruned(space, unit, level) for level in unit_levels]
    return genomes


def probe_proposals(space: Space, levels: int, tokens: int, draw: int) -> list[Proposal]:
    """Return proposals of dense and of `probes`, from which `table_of` makes a table."""
    return [Proposal(genome, tokens, draw, "probe", role="probe") for genome in (space.dense, *probes(space, levels))]


def _one_pruned(space: Space, unit: int, level: int) -> Genome:
    return Genome.of([level if i == unit else 0 for i in range(len(space.units))])


def table_of(space: Space, evaluations: Iterable[Evaluation]) -> Table:
    """Return the table of measured probes.

    Levels between probes are interpolated: a monotone cubic of the harm's square root over the fraction removed, since
    harm grows faster than linearly.

    Args:
        evaluations: evaluations of dense and of `probes`, on the same samples; others, and failed ones, are ignored.
            Units without any get a harm of 0.
    """
    harms: list[dict[int, float]] = [{} for _ in space.units]
    successful = [e for e in evaluations if e.status == "ok"]
    dense = next((np.mean(e.losses) for e in successful if e.genome == space.dense), 0.0)
    for evaluation in successful:
        (pruned_units,) = np.nonzero(evaluation.genome.levels)
        if len(pruned_units) == 1:
            level = int(evaluation.genome.levels[pruned_units[0]])
            harms[int(pruned_units[0])][level] = float(np.mean(evaluation.losses) - dense)
    return [_interpolate(space.removed_fractions[unit], points) for unit, points in enumerate(harms)]


def _interpolate(removed: Floats, points: dict[int, float]) -> Floats:
    """Return the harm at each level, (levels,), from the fractions removed, (levels,), and the harm at some levels."""
    levels = [0, *sorted(points)]
    if len(levels) == 1:
        return np.zeros(len(removed))
    # Harm cannot decrease with the level; where noise says so, it is made constant.
    harm = np.maximum.accumulate([0.0, *(points[level] for level in levels[1:])])
    root = PchipInterpolator(removed[levels], np.sqrt(harm))(np.minimum(removed, removed[levels[-1]]))
    return np.asarray(root**2)


def predicted_harm(table: Table, levels: npt.ArrayLike) -> Floats:
    """Return the rise of the loss that the table predicts for level vectors, shape (..., units) -> (...)."""
    levels = np.asarray(levels)
    return np.asarray(np.sum([harm[levels[..., unit]] for unit, harm in enumerate(table)], axis=0))
