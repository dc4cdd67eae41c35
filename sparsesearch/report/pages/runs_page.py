"""Several runs on one page: their fronts and hypervolumes over each other, up to one reference point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from sparsesearch import pareto
from sparsesearch.errors import problem
from sparsesearch.report.facts import counted, hypervolume_so_far, scale
from sparsesearch.report.pages.figures import BEHIND, foremost, points, worth_a_look
from sparsesearch.report.pages.page import (
    COLOURS,
    LAYOUT,
    SYMBOLS,
    Cell,
    Row,
    card,
    figure_div,
    page,
    pair,
    section,
    stack,
    table,
)
from sparsesearch.report.pages.page_tables import phases
from sparsesearch.report.pages.run_page import panel
from sparsesearch.report.payload import candidates, key_of, space_data
from sparsesearch.report.texts import axis_text, cost_name, cost_text, short
from sparsesearch.runs.cache import read_index
from sparsesearch.runs.results import RunResults

DASHES = ("solid", "dash", "dot", "dashdot")
# Shares of the dense cost at which the table compares qualities.
SIZES = (0.75, 0.5, 0.25)
_NOTE = (
    "Fronts on all selection data, uniform candidates as small open symbols. Hover for a candidate's genome, click on "
    "it for what it keeps of every layer."
)
_VOLUME_NOTE = (
    "Hypervolume up to one reference point, the worst of all runs, on each search's own samples; tokens of learning "
    "and of training a supernet are in the table, not in the curve."
)


def check_comparable(runs: Sequence[RunResults]) -> None:
    """Raise InputError SS602 where runs are not of one model, objectives and selection data, or SS101 where one is
    given twice; as `require_front` where one has no front."""
    first = runs[0]
    if len({each.run.path for each in runs}) < len(runs):
        raise problem("SS101", "a run is given twice.", fix="Name each run once.")
    for other in runs:
        other.require_front()
        for what, mine in _subject(first).items():
            if mine != _subject(other)[what]:
                raise problem(
                    "SS602",
                    f"{first.run.path} and {other.run.path} do not compare: their {what} are not the same.",
                    fix="Compare runs that are measured alike.",
                )


def _subject(results: RunResults) -> dict[str, object]:
    """What makes numbers of runs comparable."""
    info = results.info
    mark = info["fingerprint"]
    return {
        "models": (mark["weights"], mark.get("teacher")),
        "objectives": results.objectives,
        "selection data": (mark["data.selection"], info["selection_sequences"], info["length"]),
    }


def write_runs_page(runs: Sequence[RunResults], path: Path, offline: bool = False) -> Path:
    """Write the page; raises as `check_comparable`."""
    check_comparable(runs)
    names, reference = labels(runs), common_reference(runs)
    fronts = [card(figure_div(_fronts_figure(runs, names, cost))) for cost in runs[0].objectives[1:]]
    known = {key: one for number, each in enumerate(runs) for key, one in candidates(each, number).items()}
    chart = panel([space_data(each.space) for each in runs], known, key_of(runs[0].pick("knee"), 0))
    info = runs[0].info
    objectives, count = ", ".join(runs[0].objectives), info["selection_sequences"]
    facts = f"{info['model']} · objectives {objectives} · {count:,} selection sequences"
    return page(
        path,
        " / ".join(names),
        [
            Markup('<header><h1>{} runs compared</h1><p class="note">{}</p></header>').format(len(runs), facts),
            section("In numbers", card(_table(runs, names, reference)), note=_table_note(runs[0])),
            section("Fronts", pair(stack(*fronts), chart), note=_NOTE),
            section("Progress", card(figure_div(_volumes_figure(runs, names, reference))), note=_VOLUME_NOTE),
        ],
        offline,
    )


def labels(runs: Sequence[RunResults]) -> list[str]:
    """Names of the run directories, with their parents' where two are called the same."""
    short = [each.run.path.name for each in runs]
    return (
        short
        if len(set(short)) == len(runs)
        else [f"{each.run.path.parent.name}/{each.run.path.name}" for each in runs]
    )


def common_reference(runs: Sequence[RunResults]) -> list[float]:
    """The worst of all runs' reference points in every objective."""
    return [float(value) for value in np.max([each.reference() for each in runs], axis=0)]


def _fronts_figure(runs: Sequence[RunResults], names: Sequence[str], cost: str) -> go.Figure:
    figure = go.Figure()
    for number, (results, name) in enumerate(zip(runs, names, strict=True)):
        colour, symbol = COLOURS[number % len(COLOURS)], SYMBOLS[number % len(SYMBOLS)]
        uniform = {"color": colour, "symbol": f"{symbol}-open", "size": BEHIND}
        figure.add_scatter(
            **points(results, results.baselines, cost, number),
            mode="markers",
            marker=uniform,
            opacity=0.7,
            name=f"uniform, {name}",
            legendgroup=name,
            showlegend=False,
        )
        figure.add_scatter(
            **points(results, results.front, cost, number),
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": colour, "dash": DASHES[number % len(DASHES)]},
            marker=foremost(colour, symbol),
        )
    _, label = scale(cost)
    shown = [e for each in runs for e in [*each.front, *each.baselines]]
    figure.update_layout(height=480, **LAYOUT)
    figure.update_xaxes(title=f"{label} (dense {cost_text(cost, runs[0].space.dense_costs[cost])})")
    figure.update_yaxes(title=axis_text(runs[0].quality), range=worth_a_look(shown))
    return figure


def _volumes_figure(runs: Sequence[RunResults], names: Sequence[str], reference: Sequence[float]) -> go.Figure:
    figure = go.Figure()
    for number, (results, name) in enumerate(zip(runs, names, strict=True)):
        curve = hypervolume_so_far(results, reference)
        line = {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number % len(DASHES)], "shape": "hv"}
        figure.add_scatter(x=curve.tokens, y=curve.values, mode="lines", name=name, line=line)
    figure.update_layout(height=380, **LAYOUT)
    figure.update_xaxes(title=f"selection {counted(runs[0])} spent")
    figure.update_yaxes(title=f"hypervolume ({' x '.join(runs[0].objectives)})", rangemode="tozero")
    return figure


def _table(runs: Sequence[RunResults], names: Sequence[str], reference: Sequence[float]) -> Markup:
    """Every run in numbers: what it spent, and what it found."""
    cost = runs[0].objectives[1]
    trained, counts = [_training(each) for each in runs], counted(runs[0])
    heads = ["run", "searcher", "evaluations", counts, *(["training tokens"] if any(trained) else [])]
    heads += ["seconds", "front", "hypervolume", *(f"{runs[0].quality} at {share:.0%}" for share in SIZES)]
    rows: list[Row] = []
    for results, name, training in zip(runs, names, trained, strict=True):
        seconds = sum(row[2] for row in phases(results).values())
        volume = pareto.hypervolume([results.point(e) for e in results.front], reference)
        row: list[str | Cell] = [name, str(results.info["fingerprint"]["searcher"])]
        row += [f"{len(results.evaluations):,}", f"{results.tokens:,}", *([training] if any(trained) else [])]
        row += [f"{seconds:,.0f}", f"{len(results.front)}", Cell(short(volume), volume)]
        rows.append([*row, *(_best_under(results, cost, share) for share in SIZES)])
    return table(heads, rows)


def _training(results: RunResults) -> str:
    """Tokens of learning and of training the supernet; empty for none."""
    key = results.info["fingerprint"].get("supernet")
    if key and read_index(results.run.cache.supernet(key)) is None:
        return "unknown"  # the supernet's own file says how many
    found = results.learning_tokens + results.supernet_tokens
    return f"{found:,}" if found else ""


def _table_note(results: RunResults) -> str:
    cost = results.objectives[1]
    return (
        f"Hypervolume of the front up to one reference point, the worst of all runs; {results.quality} at "
        f"{SIZES[0]:.0%} is the best that a front has with at most {SIZES[0]:.0%} of dense's {cost_name(cost)}."
    )


def _best_under(results: RunResults, cost: str, share: float) -> Cell:
    """The best quality of the front within a share of the dense cost."""
    inside = [e.quality for e in results.front if e.costs[cost] <= share * results.space.dense_costs[cost]]
    return Cell(f"{min(inside):.4f}", min(inside)) if inside else Cell("-")
