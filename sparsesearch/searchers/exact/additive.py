"""The additive model: what each level of each unit costs in quality when it is pruned alone.

Losses of several prunings at once are predicted as the sum (rate-distortion pruning, Xu et al., ICCV 2023; ZipLM,
Kurtic et al., 2023). What the sum gets wrong is for a search to correct.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from sparsesearch.arrays import Floats
from sparsesearch.searchers.records import Evaluation, Proposal
from sparsesearch.space import Genome, Space

# For each unit the predicted rise of the loss at each of its levels, >= 0, level 0 first and 0.
Table = list[Floats]


def probes(space: Space, levels: int) -> list[Genome]:
    """Genomes with one unit pruned, at up to `levels` of its levels, evenly spread and always its last."""
    found = []
    for unit, top in enumerate(space.max_levels):
        chosen = sorted({int(level) for level in np.linspace(0, top, levels + 1)[1:].round()} - {0})
        found += [_one(space, unit, level) for level in chosen]
    return found


def alone(space: Space, levels: int, tokens: int, draw: int) -> list[Proposal]:
    """Proposals of dense and of `probes`, from which `table_of` makes a table."""
    return [Proposal(genome, tokens, draw, "probe", role="probe") for genome in (space.dense, *probes(space, levels))]


def _one(space: Space, unit: int, level: int) -> Genome:
    return Genome.of([level if i == unit else 0 for i in range(len(space.units))])


def table_of(space: Space, evaluations: Iterable[Evaluation]) -> Table:
    """The table that measured probes say; levels between them follow monotone cubic interpolation of its square root
    over what is removed: harms grow faster than straight lines, which would make the middle look bad.

    Args:
        evaluations: of dense and of `probes`, on the same samples; others, and failed ones, are passed over. Units
            without any count as harmless.
    """
    known: list[dict[int, float]] = [{} for _ in space.units]
    ok = [e for e in evaluations if e.status == "ok"]
    dense = next((np.mean(e.losses) for e in ok if e.genome == space.dense), 0.0)
    for evaluation in ok:
        (pruned,) = np.nonzero(evaluation.genome.levels)
        if len(pruned) == 1:
            level = int(evaluation.genome.levels[pruned[0]])
            known[int(pruned[0])][level] = float(np.mean(evaluation.losses) - dense)
    return [_curve(space.removed_fractions[unit], points) for unit, points in enumerate(known)]


def _curve(removed: Floats, points: dict[int, float]) -> Floats:
    levels = [0, *sorted(points)]
    if len(levels) == 1:
        return np.zeros(len(removed))
    # Pruning more never helps; what noise says otherwise is flattened.
    harm = np.maximum.accumulate([0.0, *(points[level] for level in levels[1:])])
    root = PchipInterpolator(removed[levels], np.sqrt(harm))(np.minimum(removed, removed[levels[-1]]))
    curve: Floats = root**2
    return curve


def predicted(table: Table, levels: npt.ArrayLike) -> Floats:
    """The rise of the loss that the table predicts for level vectors, shape (..., units) -> (...)."""
    levels = np.asarray(levels)
    total: Floats = np.sum([harm[levels[..., unit]] for unit, harm in enumerate(table)], axis=0)
    return total
