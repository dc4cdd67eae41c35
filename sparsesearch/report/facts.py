"""The numbers that reports show, for HTML and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsesearch import pareto
from sparsesearch.errors import printable
from sparsesearch.report.texts import LATENCY, axis_text
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome, Space

# Points of a curve over a long archive.
CURVE_POINTS = 200


@dataclass(frozen=True)
class Layers:
    """The shares of its elements that a candidate keeps, in the order of the network.

    Attributes:
        rows: name of each kind of unit.
        blocks: indices of the blocks that have units.
        kept: share of the elements, (rows, blocks); nan if a block has no such unit.
    """

    rows: list[str]
    blocks: list[int]
    kept: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rung:
    """The cost of one fidelity of a search: number of candidates measured (or trained), and tokens."""

    name: str
    count: int
    tokens: int


@dataclass(frozen=True)
class Curve:
    """Values after numbers of selection tokens spent, both (points,)."""

    tokens: list[int]
    values: list[float]


def rows_of(space: Space) -> list[str]:
    """Return the names of the kinds of units of a space, in its order."""
    return list(dict.fromkeys(row_name(u.module, u.kind) for u in space.units))


def layers(space: Space, genome: Genome) -> Layers:
    """Return the shares that a genome keeps; units of one kind in one block, such as experts, are counted together."""
    rows, blocks = rows_of(space), sorted({u.block for u in space.units})
    kept, total = np.zeros((len(rows), len(blocks))), np.zeros((len(rows), len(blocks)))
    for unit, level in zip(space.units, genome.levels.tolist(), strict=True):
        cell = rows.index(row_name(unit.module, unit.kind)), blocks.index(unit.block)
        kept[cell] += unit.levels[level]
        total[cell] += unit.total
    return Layers(rows, blocks, np.divide(kept, total, out=np.full_like(kept, np.nan), where=total > 0))


def row_name(module: str, kind: str) -> str:
    """Return a unit's name without its block."""
    leaf = printable(module.rsplit(".", 1)[-1])
    names = {
        "sparsity": f"{leaf} sparsity",
        "ffn_width": "FFN width",
        "kv_groups": "KV groups",
        "q_heads": "query heads",
    }
    return names.get(kind, kind.replace("_", " ").replace("ffn", "FFN"))


def search_evaluations(results: RunResults) -> list[tuple[int, Evaluation]]:
    """Return (tokens spent until then, evaluation) of the evaluations at the search's most expensive rung."""
    spent, evaluations = 0, []
    for evaluation in results.evaluations:
        spent += evaluation.measured_sequences * results.info["length"]
        evaluations.append((spent, evaluation))
    sizes = {e.sequences for _, e in evaluations if e.sequences < results.info["selection_sequences"]}
    top = max(sizes, default=results.info["selection_sequences"])
    return [(tokens, e) for tokens, e in evaluations if e.sequences == top and e.status == "ok"]


def best_so_far(results: RunResults) -> Curve:
    """Return the best quality so far among candidates within all limits, measured on the search's own samples."""
    tokens, values = [], []
    for spent, evaluation in search_evaluations(results):
        if results.space.feasible(evaluation.genome):
            tokens.append(spent)
            values.append(evaluation.quality)
    return Curve(tokens, np.minimum.accumulate(values).tolist() if values else [])


def hypervolume_so_far(results: RunResults, reference: Sequence[float] | None = None) -> Curve:
    """Return the hypervolume of the candidates measured so far, on the search's own samples.

    Args:
        reference: reference point of the hypervolume, (objectives,); None: the run's own.
    """
    evaluations = [(t, e) for t, e in search_evaluations(results) if results.space.feasible(e.genome)]
    points = np.array([results.point(e) for _, e in evaluations])
    reference = results.reference() if reference is None else reference
    count = len(evaluations)
    ends = np.unique(np.linspace(1, max(count, 1), min(count, CURVE_POINTS)).astype(int)).tolist()
    return Curve([evaluations[n - 1][0] for n in ends], [pareto.hypervolume(points[:n], reference) for n in ends])


def rungs(results: RunResults) -> list[Rung]:
    """Return the cost of every fidelity, the cheapest first: measurements by number of samples, then training."""
    length, pool = int(results.info["length"]), results.info["selection_sequences"]
    tokens_by_size: dict[int, list[int]] = {}
    for evaluation in results.evaluations:
        tokens_by_size.setdefault(evaluation.sequences, []).append(evaluation.measured_sequences * length)
    fidelities = []
    for sequences, spent in sorted(tokens_by_size.items()):
        size = f"{sequences * length:,} {count_unit(results)}"
        name = f"all selection data ({size})" if sequences == pool else f"search, {size}"
        fidelities.append(Rung(name, len(spent), sum(spent)))
    trained = {e.trained for e in results.rung_evaluations}
    for tokens in sorted(trained):
        lines = [line for line in results.lines(results.run.ledger) if line["phase"] == f"training {tokens}"]
        count = sum(e.trained == tokens for e in results.rung_evaluations)
        fidelities.append(Rung(f"trained to {tokens:,} tokens", count, sum(line["tokens"] for line in lines)))
    return fidelities


def count_unit(results: RunResults) -> str:
    """Return the unit in which selection data are counted."""
    return "tokens" if results.info["length"] > 1 else "samples"


def axis_scale(cost: str) -> tuple[float, str]:
    """Return the factor by which a figure multiplies a cost, and the text of the axis."""
    return 1e-6 if cost == LATENCY else 1.0, axis_text(cost)
