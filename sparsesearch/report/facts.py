"""What reports show, computed once for HTML and PNG."""

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
    """What a candidate keeps, in the order of the network.

    Attributes:
        rows: a name for each kind of unit.
        blocks: those that have units.
        kept: share of the elements, (rows, blocks); nan where a block has no such unit.
    """

    rows: list[str]
    blocks: list[int]
    kept: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rung:
    """What one fidelity of a search cost: candidates measured (or trained), and tokens."""

    name: str
    count: int
    tokens: int


@dataclass(frozen=True)
class Curve:
    """A value over selection tokens spent."""

    tokens: list[int]
    values: list[float]


def rows_of(space: Space) -> list[str]:
    """Names of the kinds of units that a space has, in its order."""
    return list(dict.fromkeys(row_name(u.module, u.kind) for u in space.units))


def layers(space: Space, genome: Genome) -> Layers:
    """What a genome keeps; units of one kind in one block, such as experts, are counted together."""
    rows, blocks = rows_of(space), sorted({u.block for u in space.units})
    kept, total = np.zeros((len(rows), len(blocks))), np.zeros((len(rows), len(blocks)))
    for unit, level in zip(space.units, genome.levels.tolist(), strict=True):
        place = rows.index(row_name(unit.module, unit.kind)), blocks.index(unit.block)
        kept[place] += unit.levels[level]
        total[place] += unit.total
    return Layers(rows, blocks, np.divide(kept, total, out=np.full_like(kept, np.nan), where=total > 0))


def row_name(module: str, kind: str) -> str:
    """A unit's name without its block."""
    leaf = printable(module.rsplit(".", 1)[-1])
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


def hypervolume_so_far(results: RunResults, reference: Sequence[float] | None = None) -> Curve:
    """Hypervolume of what was found up to each point, on the search's own samples.

    Args:
        reference: the point that it reaches up to; the run's own where None.
    """
    made = [(t, e) for t, e in search_evaluations(results) if results.space.feasible(e.genome)]
    points = np.array([results.point(e) for _, e in made])
    up_to = results.reference() if reference is None else reference
    ends = np.unique(np.linspace(1, max(len(made), 1), min(len(made), CURVE_POINTS)).astype(int)).tolist()
    return Curve([made[n - 1][0] for n in ends], [pareto.hypervolume(points[:n], up_to) for n in ends])


def rungs(results: RunResults) -> list[Rung]:
    """What every fidelity cost, the cheapest first: measurements by their samples, then training."""
    length, pool = int(results.info["length"]), results.info["selection_sequences"]
    measured: dict[int, list[int]] = {}
    for evaluation in results.evaluations:
        measured.setdefault(evaluation.sequences, []).append((evaluation.sequences - evaluation.known) * length)
    found = []
    for sequences, spent in sorted(measured.items()):
        each = f"{sequences * length:,} {counted(results)}"
        name = f"all selection data ({each})" if sequences == pool else f"search, {each}"
        found.append(Rung(name, len(spent), sum(spent)))
    trained = {e.trained for e in results.climbed}
    for tokens in sorted(trained):
        lines = [line for line in results.lines(results.run.ledger) if line["phase"] == f"training {tokens}"]
        count = sum(e.trained == tokens for e in results.climbed)
        found.append(Rung(f"trained to {tokens:,} tokens", count, sum(line["tokens"] for line in lines)))
    return found


def counted(results: RunResults) -> str:
    """What selection data are counted in."""
    return "tokens" if results.info["length"] > 1 else "samples"


def scale(cost: str) -> tuple[float, str]:
    """What a figure multiplies a cost by, and what it calls that."""
    return 1e-6 if cost == LATENCY else 1.0, axis_text(cost)
