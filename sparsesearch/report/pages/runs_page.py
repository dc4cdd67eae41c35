"""A page that compares several runs: their fronts and hypervolumes, up to one reference point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from sparsesearch import pareto
from sparsesearch.errors import problem
from sparsesearch.report.facts import axis_scale, count_unit, hypervolume_so_far
from sparsesearch.report.pages.figures import BACKGROUND_MARKER, front_marker, quality_range, scatter_data
from sparsesearch.report.pages.page import (
    COLOURS,
    LAYOUT,
    SYMBOLS,
    Cell,
    Row,
    card,
    figure_div,
    pair,
    section,
    stack,
    table,
    write_html,
)
from sparsesearch.report.pages.page_tables import phases
from sparsesearch.report.pages.run_page import panel
from sparsesearch.report.payload import candidates, key_of, space_data
from sparsesearch.report.texts import axis_text, cost_name, cost_text, short_number
from sparsesearch.runs.cache import read_index
from sparsesearch.runs.results import RunResults

DASHES = ("solid", "dash", "dot", "dashdot")
# Shares of the dense cost at which the table compares qualities.
COMPARED_SHARES = (0.75, 0.5, 0.25)
_NOTE = (
    "Fronts on all selection data, uniform candidates as small open symbols. Hover over a candidate to see its genome, "
    "click on it to see how much of every layer it keeps."
)
_VOLUME_NOTE = (
    "Hypervolume up to one reference point, the worst of all runs, on each search's own samples; tokens for learning "
    "and for training a supernet are in the table, not in the curve."
)


def check_comparable(runs: Sequence[RunResults]) -> None:
    """Raise InputError SS602 if runs differ in model, objectives or selection data, SS101 if a run is given twice.

    Also raises as `require_front` if a run has no front.
    """
    first = runs[0]
    if len({results.run.path for results in runs}) < len(runs):
        raise problem("SS101", "a run is given twice.", fix="Name each run once.")
    for other in runs:
        other.require_front()
        for name, value in _subject(first).items():
            if value != _subject(other)[name]:
                raise problem(
                    "SS602",
                    f"{first.run.path} and {other.run.path} cannot be compared: their {name} differ.",
                    fix="Compare runs with the same model, objectives and selection data.",
                )


def _subject(results: RunResults) -> dict[str, object]:
    """Return the settings that must be equal in runs that are compared."""
    info = results.info
    fingerprint = info["fingerprint"]
    return {
        "models": (fingerprint["weights"], fingerprint.get("teacher")),
        "objectives": results.objectives,
        "selection data": (fingerprint["data.selection"], info["selection_sequences"], info["length"]),
    }


def write_runs_page(runs: Sequence[RunResults], path: Path, offline: bool = False) -> Path:
    """Write the page; raises as `check_comparable`."""
    check_comparable(runs)
    names, reference = run_labels(runs), common_reference(runs)
    fronts = [card(figure_div(_fronts_figure(runs, names, cost))) for cost in runs[0].objectives[1:]]
    by_key = {key: data for number, results in enumerate(runs) for key, data in candidates(results, number).items()}
    chart = panel([space_data(results.space) for results in runs], by_key, key_of(runs[0].pick("knee"), 0))
    info = runs[0].info
    objectives, count = ", ".join(runs[0].objectives), info["selection_sequences"]
    facts = f"{info['model']} · objectives {objectives} · {count:,} selection sequences"
    return write_html(
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


def run_labels(runs: Sequence[RunResults]) -> list[str]:
    """Return the names of the run directories, with their parents' if two are equal."""
    paths = [results.run.path for results in runs]
    names = [path.name for path in paths]
    return names if len(set(names)) == len(runs) else [f"{path.parent.name}/{path.name}" for path in paths]


def common_reference(runs: Sequence[RunResults]) -> list[float]:
    """Return the worst value of all runs' reference points in every objective, (objectives,)."""
    return [float(value) for value in np.max([results.reference() for results in runs], axis=0)]


def _fronts_figure(runs: Sequence[RunResults], names: Sequence[str], cost: str) -> go.Figure:
    figure = go.Figure()
    for number, (results, name) in enumerate(zip(runs, names, strict=True)):
        colour, symbol = COLOURS[number % len(COLOURS)], SYMBOLS[number % len(SYMBOLS)]
        uniform = {"color": colour, "symbol": f"{symbol}-open", "size": BACKGROUND_MARKER}
        figure.add_scatter(
            **scatter_data(results, results.baselines, cost, number),
            mode="markers",
            marker=uniform,
            opacity=0.7,
            name=f"uniform, {name}",
            legendgroup=name,
            showlegend=False,
        )
        figure.add_scatter(
            **scatter_data(results, results.front, cost, number),
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": colour, "dash": DASHES[number % len(DASHES)]},
            marker=front_marker(colour, symbol),
        )
    _, label = axis_scale(cost)
    shown = [e for results in runs for e in [*results.front, *results.baselines]]
    figure.update_layout(height=480, **LAYOUT)
    figure.update_xaxes(title=f"{label} (dense {cost_text(cost, runs[0].space.dense_costs[cost])})")
    figure.update_yaxes(title=axis_text(runs[0].quality), range=quality_range(shown))
    return figure


def _volumes_figure(runs: Sequence[RunResults], names: Sequence[str], reference: Sequence[float]) -> go.Figure:
    figure = go.Figure()
    for number, (results, name) in enumerate(zip(runs, names, strict=True)):
        curve = hypervolume_so_far(results, reference)
        line = {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number % len(DASHES)], "shape": "hv"}
        figure.add_scatter(x=curve.tokens, y=curve.values, mode="lines", name=name, line=line)
    figure.update_layout(height=380, **LAYOUT)
    figure.update_xaxes(title=f"selection {count_unit(runs[0])} spent")
    figure.update_yaxes(title=f"hypervolume ({' x '.join(runs[0].objectives)})", rangemode="tozero")
    return figure


def _table(runs: Sequence[RunResults], names: Sequence[str], reference: Sequence[float]) -> Markup:
    """Return a table of runs: tokens and seconds spent, and the quality of their fronts."""
    cost = runs[0].objectives[1]
    trained, counts = [_training_tokens(results) for results in runs], count_unit(runs[0])
    heads = ["run", "searcher", "evaluations", counts, *(["training tokens"] if any(trained) else [])]
    heads += ["seconds", "front", "hypervolume", *(f"{runs[0].quality} at {share:.0%}" for share in COMPARED_SHARES)]
    rows: list[Row] = []
    for results, name, training in zip(runs, names, trained, strict=True):
        seconds = sum(row[2] for row in phases(results).values())
        volume = pareto.hypervolume([results.point(e) for e in results.front], reference)
        row: list[str | Cell] = [name, str(results.info["fingerprint"]["searcher"])]
        row += [f"{len(results.evaluations):,}", f"{results.tokens:,}", *([training] if any(trained) else [])]
        row += [f"{seconds:,.0f}", f"{len(results.front)}", Cell(short_number(volume), volume)]
        rows.append([*row, *(_best_under(results, cost, share) for share in COMPARED_SHARES)])
    return table(heads, rows)


def _training_tokens(results: RunResults) -> str:
    """Return the tokens for learning and for training the supernet; empty for none."""
    key = results.info["fingerprint"].get("supernet")
    if key and read_index(results.run.cache.supernet(key)) is None:
        return "unknown"  # only the supernet's index has the number
    tokens = results.learning_tokens + results.supernet_tokens
    return f"{tokens:,}" if tokens else ""


def _table_note(results: RunResults) -> str:
    cost = results.objectives[1]
    return (
        f"Hypervolume of the front up to one reference point, the worst of all runs; {results.quality} at "
        f"{COMPARED_SHARES[0]:.0%} is the best of a front at no more than {COMPARED_SHARES[0]:.0%} of dense "
        f"{cost_name(cost)}."
    )


def _best_under(results: RunResults, cost: str, share: float) -> Cell:
    """Return the best quality of the front within a share of the dense cost."""
    qualities = [e.quality for e in results.front if e.costs[cost] <= share * results.space.dense_costs[cost]]
    return Cell(f"{min(qualities):.4f}", min(qualities)) if qualities else Cell("-")
