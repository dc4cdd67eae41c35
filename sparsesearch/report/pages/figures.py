"""Plotly figures of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from sparsesearch.report.facts import best_so_far, counted, hypervolume_so_far, rungs, scale, search_evaluations
from sparsesearch.report.lineage import Step
from sparsesearch.report.pages.page import BLUE, COLOURS, GREEN, GREY, LAYOUT, ORANGE, SYMBOLS
from sparsesearch.report.payload import key_of, picked
from sparsesearch.report.texts import axis_text, cost_name, cost_text
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation

# Units whose levels a hover shows.
HOVER_UNITS = 96
# Size of markers that give way to `foremost` ones.
BEHIND = 7


def points(results: RunResults, evaluations: Sequence[Evaluation], cost: str, run: int | None = None) -> dict[str, Any]:
    """Coordinates, keys and hover texts of candidates in a plane of quality over a cost, by rising cost."""
    ordered = sorted(evaluations, key=lambda e: e.costs[cost])
    factor, _ = scale(cost)
    return {
        "x": [e.costs[cost] * factor for e in ordered],
        "y": [e.quality for e in ordered],
        "customdata": [key_of(e, run) for e in ordered],
        "text": hover(results, ordered),
        "hoverinfo": "text",
    }


def hover(results: RunResults, evaluations: Sequence[Evaluation]) -> list[str]:
    """Id, origin, objectives, costs and genome of each."""
    return [
        f"{e.genome.id} ({e.origin})\n{results.quality} {e.quality:.4f}\n"
        + "\n".join(f"{cost_name(name)} {cost_text(name, value)}" for name, value in e.costs.items())
        + f"\ngenome {_levels(e)}"
        for e in evaluations
    ]


def _levels(evaluation: Evaluation) -> str:
    levels = evaluation.genome.levels.tolist()
    text = " ".join(map(str, levels[:HOVER_UNITS])) + (" ..." if len(levels) > HOVER_UNITS else "")
    return "\n".join(textwrap.wrap(text, 48))


def front_figure(results: RunResults, cost: str) -> go.Figure:
    """Every candidate, the front, the uniform baselines and dense, quality against one cost."""
    searched = [e for _, e in search_evaluations(results)]
    dense = [results.dense] if results.dense else []
    everyone = {"color": GREY, "opacity": 0.4, "size": BEHIND}
    traces = [
        ("all candidates (search samples)", searched, {"mode": "markers", "marker": everyone}),
        (
            "uniform",
            results.baselines,
            {
                "mode": "lines+markers",
                "line": {"color": ORANGE, "dash": "dot"},
                "marker": foremost(ORANGE, "square"),
            },
        ),
        ("front", results.front, {"mode": "lines+markers", "line": {"color": BLUE}, "marker": foremost(BLUE)}),
        ("dense", dense, {"mode": "markers", "marker": {"color": GREEN, "size": 14, "symbol": "star"}}),
    ]
    figure = go.Figure()
    for name, evaluations, style in traces:
        figure.add_trace(go.Scatter(name=name, **points(results, evaluations, cost), **style))
    factor, label = scale(cost)
    for rules, evaluation in picked(results).items():
        at = {"x": evaluation.costs[cost] * factor, "y": evaluation.quality}
        figure.add_annotation(text=rules, showarrow=True, ax=30, ay=-30, arrowwidth=1, **at)
    for bound in results.space.bounds:
        if bound.cost == cost:
            figure.add_vline(x=bound.maximum * factor, line_dash="dash", line_color=GREY, annotation_text="limit")
    figure.update_yaxes(title=axis_text(results.quality), range=worth_a_look([*results.front, *results.baselines]))
    figure.update_xaxes(title=f"{label} (dense {cost_text(cost, results.space.dense_costs[cost])})")
    figure.update_layout(height=480, **LAYOUT)
    return figure


def foremost(colour: str, symbol: str = "circle") -> dict[str, Any]:
    """A marker that wins the pointer where markers overlap.

    Of those under the pointer plotly takes the one of the smallest `size`, so what it shows is mostly outline.
    """
    return {"color": colour, "symbol": symbol, "size": BEHIND - 1, "line": {"color": colour, "width": 3}}


def worth_a_look(evaluations: Sequence[Evaluation]) -> list[float] | None:
    """Range of qualities: ruined candidates would flatten everything else."""
    worst = max((e.quality for e in evaluations), default=0.0)
    return [-0.03 * worst, 1.1 * worst] if worst else None


def progress_figure(results: RunResults) -> go.Figure:
    """Hypervolume over selection tokens spent and, where there are limits, the best quality within them."""
    volume = hypervolume_so_far(results)
    figure = go.Figure()
    figure.update_layout(height=380, xaxis_title=f"selection {counted(results)} spent", **LAYOUT)
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
    """Quality of every candidate that was trained, at each rung."""
    before = {e.genome: e for e in results.final}
    paths: dict[Any, list[Evaluation]] = {}
    for evaluation in results.climbed:
        start = [before[evaluation.genome]] if evaluation.genome in before else []
        paths.setdefault(evaluation.genome, start).append(evaluation)
    figure, named = go.Figure(), set[str]()
    for path in paths.values():
        uniform = path[0].role == "baseline"
        name = "uniform" if uniform else "searched"
        figure.add_trace(
            go.Scatter(
                x=[f"{e.trained:,}" for e in path],
                y=[e.quality for e in path],
                name=name,
                legendgroup=name,
                showlegend=name not in named,
                mode="lines+markers",
                text=hover(results, path),
                hoverinfo="text",
                customdata=[key_of(e) for e in path],
                line={"color": ORANGE if uniform else BLUE, "dash": "dot" if uniform else "solid"},
                marker={"symbol": "square" if uniform else "circle", "size": 7},
            )
        )
        named.add(name)
    figure.update_layout(height=380, **LAYOUT)
    figure.update_xaxes(title="training tokens", type="category")
    figure.update_yaxes(title=axis_text(results.quality), rangemode="tozero")
    return figure


def rungs_figure(results: RunResults) -> go.Figure:
    """Tokens that each fidelity took, and how many candidates had it."""
    found = rungs(results)
    texts = [f"{rung.tokens:,} {counted(results)}, {rung.count:,} candidates" for rung in found]
    # The size of each goes to a line of its own: names are as wide as a telephone otherwise.
    names = [rung.name.replace(" (", "\n(").replace(", ", ",\n") for rung in found]
    return _bars(names, [rung.tokens for rung in found], texts, counted(results), BLUE)


def seconds_figure(phases: Mapping[str, Sequence[float]]) -> go.Figure:
    """Seconds that each phase took.

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


def lineage_figure(results: RunResults, chains: Mapping[str, Sequence[Step]]) -> go.Figure:
    """Quality and first cost along each chain; chains by name."""
    figure, cost = go.Figure(), results.objectives[1]
    factor, label = scale(cost)
    for (name, steps), colour, symbol in zip(chains.items(), COLOURS, SYMBOLS, strict=False):
        evaluations = [step.evaluation for step in steps]
        figure.add_trace(
            go.Scatter(
                x=[e.costs[cost] * factor for e in evaluations],
                y=[e.quality for e in evaluations],
                name=name,
                mode="lines+markers",
                text=hover(results, evaluations),
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


def latency_figure(found: Mapping[str, Any], keys: Mapping[str, str]) -> go.Figure:
    """Measured over predicted milliseconds; predictions are of shares of dense, so the line goes through dense.

    Args:
        found: of `export.latency.measure_finalists`, with predictions.
        keys: of candidates in the page, by id.
    """
    figure, dense = go.Figure(), found["dense"]
    shown = [name for name in found if name not in ("dense", "setting")]
    top = 1.1 * max(found[name]["predicted_ns"] for name in [*shown, "dense"]) / 1e6
    slope = dense["measured_ns"] / dense["predicted_ns"]
    line = {"color": GREY, "dash": "dot"}
    figure.add_scatter(x=[0, top], y=[0, top * slope], mode="lines", line=line, name="as predicted", hoverinfo="skip")
    for name, each, colour, symbol in (("candidates", shown, BLUE, "circle"), ("dense", ["dense"], GREEN, "star")):
        figure.add_scatter(
            x=[found[one]["predicted_ns"] / 1e6 for one in each],
            y=[found[one]["measured_ns"] / 1e6 for one in each],
            mode="markers",
            name=name,
            text=each,
            customdata=[keys.get(one) for one in each],
            marker={"color": colour, "symbol": symbol, "size": 10},
            hovertemplate="%{text}<br>predicted %{x:.3g} ms<br>measured %{y:.3g} ms<extra></extra>",
        )
    figure.update_layout(height=380, **LAYOUT)
    figure.update_xaxes(title="predicted, ms", range=[0, top])
    figure.update_yaxes(title="measured, ms", rangemode="tozero")
    return figure
