"""Dominance, hypervolume and picks on tables of objectives, every one minimised, by pymoo."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sparsesearch.arrays import Floats
from sparsesearch.errors import printable, problem
from sparsesearch.space.limit import Limit

T = TypeVar("T")


def non_dominated(points: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return the indices of the non-dominated points, ascending; points with a non-finite value are left out.

    Args:
        points: (points, objectives).
    """
    points = np.asarray(points, dtype=float)
    # A single NaN row would silently corrupt the sorting.
    finite = np.flatnonzero(np.isfinite(points).all(axis=1)) if points.size else np.array([], dtype=np.intp)
    if finite.size == 0:
        return finite
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    front = NonDominatedSorting().do(points[finite], only_non_dominated_front=True)
    return np.sort(finite[front])


def hypervolume(points: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return the volume that the points dominate below the reference point.

    Args:
        points: (points, objectives); those not below the reference in every objective add nothing.
        reference: (objectives,).
    """
    points = np.asarray(points, dtype=float)
    kept = non_dominated(points)
    if kept.size == 0:
        return 0.0
    from pymoo.indicators.hv import HV

    return float(HV(ref_point=np.asarray(reference, dtype=float))(points[kept]))


def spread(points: npt.ArrayLike, count: int) -> npt.NDArray[np.intp]:
    """Return indices of at most `count` non-dominated points, the most crowded dropped first (crowding distance).

    Args:
        points: (points, objectives).
    """
    points = np.asarray(points, dtype=float)
    front = non_dominated(points)
    from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function

    while front.size > count:
        distance = get_crowding_function("cd").do(points[front])
        front = np.delete(front, int(np.argmin(distance)))
    return front


def best_fronts(points: npt.ArrayLike, count: int) -> list[int]:
    """Return the indices of the `count` best points, ascending; all finite points if there are fewer.

    Takes complete non-dominated fronts, and of the last one its least crowded points.

    Args:
        points: (points, objectives).
    """
    table = np.asarray(points, dtype=float)
    remaining, best = np.arange(len(table)), list[int]()
    while len(best) < count and remaining.size:
        front = non_dominated(table[remaining])
        if not front.size:  # only points with non-finite values remain
            break
        if len(best) + front.size > count:
            front = spread(table[remaining], count - len(best))
        best += remaining[front].tolist()
        remaining = np.delete(remaining, front)
    return sorted(best)


def knee(points: npt.ArrayLike) -> int:
    """Return the index of the point where giving up a little of one objective gains most in the others.

    This is the nearest to the ideal of pymoo's high-trade-off points, on normalised objectives; of all points if pymoo
    finds none (small or straight fronts).

    Args:
        points: the front, (points, objectives).
    """
    from pymoo.mcdm.high_tradeoff import HighTradeoffPoints

    unit = _normalised(np.asarray(points, dtype=float))
    to_ideal = np.linalg.norm(unit, axis=1)
    trade_offs: Any = None
    if len(unit) > 4:
        with np.errstate(all="ignore"):
            trade_offs = HighTradeoffPoints().do(unit)
    candidates = np.atleast_1d(trade_offs) if trade_offs is not None and np.size(trade_offs) else np.arange(len(unit))
    return int(candidates[np.argmin(to_ideal[candidates])])


def _normalised(points: Floats) -> Floats:
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - low) / np.where(high > low, high - low, 1.0))


def pick(
    rule: str,
    candidates: Sequence[T],
    values: Callable[[T], dict[str, float]],
    objectives: Sequence[str],
    dense: dict[str, int],
) -> T:
    """Return one candidate of a front, chosen by a rule.

    Args:
        rule: `knee`, `min:NAME`, `max-under:LIMIT` (best quality within it, as `max-under:params=60%`) or
            `weights:NAME=.7,NAME=.3` (the candidate whose pymoo pseudo-weights are nearest to these).
        candidates: the front.
        values: gives objectives and costs of a candidate by name.
        objectives: names of the objectives, quality first.
        dense: costs of the dense model, the base of percentages.

    Raises InputError SS501 if the rule is not understood or no candidate satisfies it.
    """
    if not candidates:
        raise problem("SS501", "the front is empty: no candidate meets every limit.")
    kind, _, argument = rule.partition(":")
    table = [values(c) for c in candidates]
    if kind == "knee" and not argument:
        return candidates[knee([[row[o] for o in objectives] for row in table])]
    if kind == "min" and argument:
        name = _checked_name(argument, table[0])
        return candidates[int(np.argmin([row[name] for row in table]))]
    if kind == "weights" and argument:
        weights = _weights(argument, table[0])
        points = np.array([[row[name] for name in weights] for row in table], dtype=float)
        return candidates[_nearest_to_weights(points, np.array(list(weights.values())))]
    if kind == "max-under" and argument:
        return candidates[_best_under(argument, table, objectives[0], dense)]
    raise problem(
        "SS501",
        f"pick {printable(rule, 80)!r} is not understood.",
        fix="Use best, knee, smallest, dense, min:kl, max-under:params=60% or weights:kl=.7,params=.3.",
    )


def _checked_name(name: str, row: dict[str, float]) -> str:
    if name not in row:
        raise problem("SS501", f"pick by {printable(name, 80)!r}: known are {', '.join(row)}.")
    return name


def _nearest_to_weights(points: Floats, weights: Floats) -> int:
    """Return the row of `points` (points, objectives) whose distances to the worst values, as shares of their sum, are
    nearest to `weights` (objectives,).
    """
    from pymoo.mcdm.pseudo_weights import PseudoWeights

    # Pseudo-weights are undefined for a point that is worst in everything, and for an objective without differences.
    rows = non_dominated(points)
    differs = np.ptp(points[rows], axis=0) > 0
    if not (weights[differs] > 0).any():
        return int(rows[0])
    shares = weights[differs] / weights[differs].sum()
    return int(rows[int(PseudoWeights(shares).do(points[rows][:, differs]))])


def _weights(argument: str, row: dict[str, float]) -> dict[str, float]:
    weights = {}
    for item in argument.split(","):
        name, sign, number = item.partition("=")
        if not sign or not re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,18}", number.strip(), re.ASCII):
            raise problem("SS501", f"pick weight {printable(item, 80)!r} is not of the form name=number.")
        if _checked_name(name.strip(), row) in weights:
            raise problem("SS501", f"pick weights name {name.strip()!r} twice.", fix="Name each once.")
        weights[name.strip()] = float(number)
    if not any(weights.values()):
        raise problem("SS501", f"pick weights {argument!r} are all zero.", fix="Make at least one positive.")
    if len(weights) < 2:
        raise problem(
            "SS501", f"pick weights {argument!r} name one objective.", fix=f"Name two or more, or use min:{name}."
        )
    return weights


def _best_under(argument: str, table: list[dict[str, float]], quality: str, dense: dict[str, int]) -> int:
    limit = Limit.parse(argument if "<=" in argument else argument.replace("=", "<=", 1))
    if limit.cost not in dense:
        raise problem("SS501", f"pick under {printable(argument, 80)!r}: known costs are {', '.join(dense)}.")
    maximum = limit.bound(dense, 0).maximum
    feasible = [i for i, row in enumerate(table) if row[limit.cost] <= maximum]
    if not feasible:
        smallest = min(table, key=lambda row: row[limit.cost])[limit.cost]
        raise problem("SS501", f"no candidate with {limit.text}. Smallest on the front is {smallest:,.0f}.")
    return min(feasible, key=lambda i: table[i][quality])
