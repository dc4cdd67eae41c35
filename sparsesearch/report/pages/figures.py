"""Plotly figures of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from sparsesearch.media import BLUE, GREEN, GREY, ORANGE
from sparsesearch.report.facts import axis_scale, best_so_far, count_unit, hypervolume_so_far, rungs, search_evaluations
from sparsesearch.report.lineage import LineageStep
from sparsesearch.report.pages.page import COLOURS, LAYOUT, SYMBOLS
from sparsesearch.report.payload import key_of, picks_by_name
from sparsesearch.report.texts import axis_text, cost_name, cost_text
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation

# Most units whose levels a hover text shows.
MAX_HOVER_UNITS = 96
# Size of markers in the background, larger than that of `front_marker`.
BACKGROUND_MARKER = 7


def scatter_data(
    results: RunResults, evaluations: Sequence[Evaluation], cost: str, run: int | None = None
) -> dict[str, Any]:
    """Return coordinates, keys and hover texts of candidates for a plot of quality over a cost, by rising cost."""
    ordered = sorted(evaluations, key=lambda e: e.costs[cost])
    factor, _ = axis_scale(cost)
    return {
        "x": [e.costs[cost] * factor for e in ordered],
        "y": [e.quality for e in ordered],
        "customdata": [key_of(e, run) for e in ordered],
        "text": hover_texts(results, ordered),
        "hoverinfo": "text",
    }


def hover_texts(results: RunResults, evaluations: Sequence[Evaluation]) -> list[str]:
    """Return id, origin, objectives, costs and genome of each candidate as text."""
    return [
        f"{e.genome.id} ({e.origin})\n{results.quality} {e.quality:.4f}\n"
        + "\n".join(f"{cost_name(name)} {cost_text(name, value)}" for name, value in e.costs.items())
        + f"\ngenome {_levels(e)}"
        for e in evaluations
    ]


def _levels(evaluation: Evaluation) -> str:
    levels = evaluation.genome.levels.tolist()
    text = " ".join(map(str, levels[:MAX_HOVER_UNITS])) + (" ..." if len(levels) > MAX_HOVER_UNITS else "")
    return "\n".join(textwrap.wrap(text, 48))


def front_figure(results: RunResults, cost: str) -> go.Figure:
    """Plot quality over one cost for all candidates, the front, the uniform baselines and dense."""
    searched = [e for _, e in search_evaluations(results)]
    dense = [results.dense] if results.dense else []
    background = {"color": GREY, "opacity": 0.4, "size": BACKGROUND_MARKER}
    traces = [
        ("all candidates (search samples)", searched, {"mode": "markers", "marker": background}),
        (
            "uniform",
            results.baselines,
            {
                "mode": "lines+markers",
                "line": {"color": ORANGE, "dash": "dot"},
                "marker": front_marker(ORANGE, "square"),
            },
        ),
        ("front", results.front, {"mode": "lines+markers", "line": {"color": BLUE}, "marker": front_marker(BLUE)}),
        ("dense", dense, {"mode": "markers", "marker": {"color": GREEN, "size": 14, "symbol": "star"}}),
    ]
    figure = go.Figure()
    for name, evaluations, style in traces:
        figure.add_trace(go.Scatter(name=name, **scatter_data(results, evaluations, cost), **style))
    factor, label = axis_scale(cost)
    for rules, evaluation in picks_by_name(results).items():
        at = {"x": evaluation.costs[cost] * factor, "y": evaluation.quality}
        figure.add_annotation(text=rules, showarrow=True, ax=30, ay=-30, arrowwidth=1, **at)
    for bound in results.space.bounds:
        if bound.cost == cost:
            figure.add_vline(x=bound.maximum * factor, line_dash="dash", line_color=GREY, annotation_text="limit")
    figure.update_yaxes(title=axis_text(results.quality), range=quality_range([*results.front, *results.baselines]))
    figure.update_xaxes(title=f"{label} (dense {cost_text(cost, results.space.dense_costs[cost])})")
    figure.update_layout(height=480, **LAYOUT)
    return figure


def front_marker(colour: str, symbol: str = "circle") -> dict[str, Any]:
    """Return a marker that gets the pointer if markers overlap.

    Plotly chooses the marker of the smallest `size` under the pointer, so this one is small with a wide outline.
    """
    return {"color": colour, "symbol": symbol, "size": BACKGROUND_MARKER - 1, "line": {"color": colour, "width": 3}}


def quality_range(evaluations: Sequence[Evaluation]) -> list[float] | None:
    """Return the range of a quality axis, from these candidates only: very bad ones would flatten all others."""
    worst = max((e.quality for e in evaluations), default=0.0)
    return [-0.03 * worst, 1.1 * worst] if worst else None


def progress_figure(results: RunResults) -> go.Figure:
    """Plot the hypervolume over selection tokens spent and, if there are limits, the best quality within them."""
    volume = hypervolume_so_far(results)
    figure = go.Figure()
    figure.update_layout(height=380, xaxis_title=f"selection {count_unit(results)} spent", **LAYOUT)
    title = f"hypervolume ({' x '.join(results.objectives)})"
    axis = {"title": title, "rangemode": "tozero"}
    style = {"color": ORANGE, "dash": "dot"} if results.space.bounds else {"color": BLUE, "dash": "solid"}
    if results.space.bounds:
        best, name = best_so_far(results), f"best {results.quality} within limits"
        figure.add_trace(
            go.Scatter(x=best.tokens, y=best.values, name=name, mode="lines", line={"color": BLUE, "shape": "hv"})
        )
        right = {"side": "right", "showgrid": False, "overlaying": "y"}
        figure.update_layout(yaxis={"title": name}, yaxis2=axis | right)
    else:
        figure.update_layout(yaxis=axis)
    side = "y2" if results.space.bounds else "y"
    line = style | {"shape": "hv"}
    figure.add_trace(
        go.Scatter(x=volume.tokens, y=volume.values, name="hypervolume", mode="lines", yaxis=side, line=line)
    )
    return figure


def ladder_figure(results: RunResults) -> go.Figure:
    """Plot the quality of every trained candidate at each rung."""
    before = {e.genome: e for e in results.final}
    paths: dict[Any, list[Evaluation]] = {}
    for evaluation in results.rung_evaluations:
        start = [before[evaluation.genome]] if evaluation.genome in before else []
        paths.setdefault(evaluation.genome, start).append(evaluation)
    figure, in_legend = go.Figure(), set[str]()
    for path in paths.values():
        uniform = path[0].role == "baseline"
        name = "uniform" if uniform else "searched"
        figure.add_trace(
            go.Scatter(
                x=[f"{e.trained:,}" for e in path],
                y=[e.quality for e in path],
                name=name,
                legendgroup=name,
                showlegend=name not in in_legend,
                mode="lines+markers",
                text=hover_texts(results, path),
                hoverinfo="text",
                customdata=[key_of(e) for e in path],
                line={"color": ORANGE if uniform else BLUE, "dash": "dot" if uniform else "solid"},
                marker={"symbol": "square" if uniform else "circle", "size": 7},
            )
        )
        in_legend.add(name)
    figure.update_layout(height=380, **LAYOUT)
    figure.update_xaxes(title="training tokens", type="category")
    figure.update_yaxes(title=axis_text(results.quality), rangemode="tozero")
    return figure


def rungs_figure(results: RunResults) -> go.Figure:
    """Plot the tokens of each fidelity, with its number of candidates."""
    fidelities = rungs(results)
    texts = [f"{rung.tokens:,} {count_unit(results)}, {rung.count:,} candidates" for rung in fidelities]
    # Line breaks keep names narrower than a telephone's screen.
    names = [rung.name.replace(" (", "\n(").replace(", ", ",\n") for rung in fidelities]
    return _bars(names, [rung.tokens for rung in fidelities], texts, count_unit(results), BLUE)


def seconds_figure(phases: Mapping[str, Sequence[float]]) -> go.Figure:
    """Plot the seconds of each phase.

    Args:
        phases: steps, tokens, seconds and device seconds by phase.
    """
    seconds = [row[2] for row in phases.values()]
    return _bars(list(phases), seconds, [f"{value:,.1f} s" for value in seconds], "seconds", GREEN)


def _bars(names: list[str], values: Sequence[float], texts: list[str], title: str, colour: str) -> go.Figure:
    bars = go.Bar(
        y=names,
        x=values,
        text=texts,
        orientation="h",
        marker_color=colour,
        textposition="auto",
        cliponaxis=False,
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_layout(height=110 + 40 * len(names), **LAYOUT | {"margin": {"l": 10, "r": 15, "t": 15, "b": 45}})
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(title=title, rangemode="tozero")
    return figure


def lineage_figure(results: RunResults, chains: Mapping[str, Sequence[LineageStep]]) -> go.Figure:
    """Plot quality over the first cost along each chain; chains by name."""
    figure, cost = go.Figure(), results.objectives[1]
    factor, label = axis_scale(cost)
    for (name, steps), colour, symbol in zip(chains.items(), COLOURS, SYMBOLS, strict=False):
        evaluations = [step.evaluation for step in steps]
        figure.add_trace(
            go.Scatter(
                x=[e.costs[cost] * factor for e in evaluations],
                y=[e.quality for e in evaluations],
                name=name,
                mode="lines+markers",
                text=hover_texts(results, evaluations),
                hoverinfo="text",
                customdata=[key_of(e) for e in evaluations],
                line={"color": colour},
                marker={"symbol": symbol, "size": [8] * (len(evaluations) - 1) + [13]},
            )
        )
    figure.update_layout(height=380, **LAYOUT)
    figure.update_xaxes(title=label)
    figure.update_yaxes(title=axis_text(results.quality))
    return figure


def latency_figure(latencies: Mapping[str, Any], keys: Mapping[str, str]) -> go.Figure:
    """Plot measured over predicted milliseconds; shares of dense are predicted, so the line goes through dense.

    Args:
        latencies: as `run_files.read_latencies` returns them, with predictions.
        keys: keys of candidates in the page, by id.
    """
    figure, dense = go.Figure(), latencies["dense"]
    ids = [name for name in latencies if name not in ("dense", "setting")]
    top = 1.1 * max(latencies[name]["predicted_ns"] for name in [*ids, "dense"]) / 1e6
    slope = dense["measured_ns"] / dense["predicted_ns"]
    line = {"color": GREY, "dash": "dot"}
    figure.add_scatter(x=[0, top], y=[0, top * slope], mode="lines", line=line, name="as predicted", hoverinfo="skip")
    for name, shown, colour, symbol in (("candidates", ids, BLUE, "circle"), ("dense", ["dense"], GREEN, "star")):
        figure.add_scatter(
            x=[latencies[i]["predicted_ns"] / 1e6 for i in shown],
            y=[latencies[i]["measured_ns"] / 1e6 for i in shown],
            mode="markers",
            name=name,
            text=shown,
            customdata=[keys.get(i) for i in shown],
            marker={"color": colour, "symbol": symbol, "size": 10},
            hovertemplate="%{text}<br>predicted %{x:.3g} ms<br>measured %{y:.3g} ms<extra></extra>",
        )
    figure.update_layout(height=380, **LAYOUT)
    figure.update_xaxes(title="predicted, ms", range=[0, top])
    figure.update_yaxes(title="measured, ms", rangemode="tozero")
    return figure
