"""What reports show, computed once for HTML and PNG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsesearch import pareto
from sparsesearch.engine.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome

# Points of a curve over a long archive.
CURVE_POINTS = 200


@dataclass(frozen=True)
class HeatMap:
    """Fraction removed, rows x blocks; nan where a block has no such unit."""

    title: str
    rows: list[str]
    blocks: list[int]
    removed: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A value over selection tokens spent."""

    tokens: list[int]
    values: list[float]


def heat_map(results: RunResults, title: str, genome: Genome) -> HeatMap:
    """What a genome removes, unit by unit."""
    units = results.space.units
    rows = list(dict.fromkeys(row_name(u.module, u.kind) for u in units))
    blocks = list(range(results.info["blocks"]))
    removed = np.full((len(rows), len(blocks)), np.nan)
    for unit, level in zip(units, genome.levels.tolist(), strict=True):
        removed[rows.index(row_name(unit.module, unit.kind)), unit.block] = unit.removed(level)
    return HeatMap(title, rows, blocks, removed)


def row_name(module: str, kind: str) -> str:
    """A unit's name without its block."""
    leaf = module.rsplit(".", 1)[-1]
    names = {
        "sparsity": f"{leaf} sparsity",
        "ffn_width": "FFN width",
        "kv_groups": "KV groups",
        "q_heads": "query heads",
    }
    return names.get(kind, kind.replace("_", " ").replace("ffn", "FFN"))


def search_evaluations(results: RunResults) -> list[tuple[int, Evaluation]]:
    """Evaluations at the search's most expensive rung with the tokens spent when they were made."""
    spent, found = 0, []
    for evaluation in results.evaluations:
        spent += (evaluation.sequences - evaluation.known) * results.info["length"]
        found.append((spent, evaluation))
    sizes = {e.sequences for _, e in found if e.sequences < results.info["selection_sequences"]}
    top = max(sizes, default=results.info["selection_sequences"])
    return [(tokens, e) for tokens, e in found if e.sequences == top and e.status == "ok"]


def best_so_far(results: RunResults) -> Curve:
    """Best quality among candidates within every limit, measured on the search's own samples."""
    tokens, values = [], []
    for spent, evaluation in search_evaluations(results):
        if results.space.feasible(evaluation.genome):
            tokens.append(spent)
            values.append(evaluation.quality)
    return Curve(tokens, np.minimum.accumulate(values).tolist() if values else [])


def hypervolume_so_far(results: RunResults) -> Curve:
    """Hypervolume of what was found up to each point, on the search's own samples."""
    made = [(t, e) for t, e in search_evaluations(results) if results.space.feasible(e.genome)]
    points = np.array([results.point(e) for _, e in made])
    reference = results.reference()
    ends = np.unique(np.linspace(1, max(len(made), 1), min(len(made), CURVE_POINTS)).astype(int)).tolist()
    return Curve([made[n - 1][0] for n in ends], [pareto.hypervolume(points[:n], reference) for n in ends])
