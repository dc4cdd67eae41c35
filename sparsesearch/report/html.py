"""The HTML report: one page that works from a file."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from rich.table import Table

from sparsesearch.engine.results import RunResults, name_in_tests
from sparsesearch.report.data import best_so_far, heat_map, hypervolume_so_far, search_evaluations
from sparsesearch.report.terminal import short
from sparsesearch.searchers import Evaluation

# Okabe-Ito: told apart by colour-blind readers.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "legend": {"orientation": "h", "y": 1.1, "x": 0},
}

_STYLE = """
body { font-family: system-ui, sans-serif; margin: 0 auto; max-width: 1100px; padding: 1.5rem; color: #222; }
h1 { font-size: 1.4rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; font-size: .9rem; white-space: nowrap }
td, th { padding: .2rem .6rem; text-align: right }
th { border-bottom: 1px solid #999 } td:first-child, th:first-child { text-align: left; font-family: monospace }
tr.pick { font-weight: 600 } p.note { color: #555; max-width: 70ch } .wide { overflow-x: auto }
"""


_PROGRESS_NOTE = (
    '<p class="note">Hypervolume: how much of the space of objectives the candidates found so far dominate, up to the '
    "reference point; it rises as the front gets better or longer.</p>"
)


_LADDER_NOTE = (
    '<p class="note">Quality of the candidates that climbed, by the training tokens they have seen; the best of all '
    "sizes go on, uniform ones beside them. All saw the same data in the same order.</p>"
)


def write_report(results: RunResults, offline: bool = False) -> Path:
    """Write `report.html` into the run.

    Args:
        offline: put plotly.js into the page (one file of 5 MB); otherwise it lies beside it as `plotly.min.js`.
            Neither needs a network.
    """
    return page(results.run.path / "report.html", results.run.path.name, _sections(results), offline)


def page(path: Path, title: str, sections: list[str], offline: bool = False) -> Path:
    """Write a page with figures; `offline` as for `write_report`."""
    if offline:
        script = f"<script>{get_plotlyjs()}</script>"
    else:
        (path.parent / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
        script = '<script src="plotly.min.js"></script>'
    body = "\n".join(sections)
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>{script}</head><body>{body}</body></html>"
    )
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def html_table(table: Table) -> str:
    """A table of the terminal for a page."""
    heads = "".join(f"<th>{html.escape(str(column.header))}</th>" for column in table.columns)
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<p class="note">{html.escape(str(table.title))}</p><table><tr>{heads}</tr>{body}</table>'


def _sections(results: RunResults) -> list[str]:
    info, limits = results.info, ", ".join(b.text for b in results.space.bounds) or "none"
    searcher = info["fingerprint"]["searcher"]
    sections = [
        f"<h1>{html.escape(results.run.path.name)}</h1>",
        f'<p class="note">{html.escape(info["model"])}, {len(results.space.units)} units, searcher {searcher}, '
        f"limits: {html.escape(limits)}. {len(results.evaluations)} evaluations, "
        f"{results.tokens:,} selection tokens.</p>",
    ]
    if results.final:
        cost = results.objectives[1]
        sections += [f"<h2>Quality against {cost}</h2>", figure_div(front_figure(results, cost))]
        sections += [figure_div(front_figure(results, other)) for other in results.objectives[2:]]
    else:
        sections.append("<p>No final measurements yet: the run goes on, or 'sparsesearch resume' ends it.</p>")
        return [*sections, "<h2>Ledger</h2>", _ledger_html(results)]
    sections += ["<h2>The front</h2>", _front_html(results), "<h2>What the picks remove</h2>", *_heat_maps(results)]
    if results.climbed:
        sections += ["<h2>Rungs of training</h2>", _LADDER_NOTE, figure_div(ladder_figure(results))]
    sections += [
        "<h2>Progress</h2>",
        _PROGRESS_NOTE,
        figure_div(progress_figure(results)),
        "<h2>Ledger</h2>",
        _ledger_html(results),
    ]
    return sections


def figure_div(figure: go.Figure) -> str:
    """A figure as a part of a page."""
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    return text


def _hover(results: RunResults, evaluations: list[Evaluation]) -> list[str]:
    return [
        f"{e.genome.id} ({e.origin})<br>{results.quality} {e.quality:.4f}<br>"
        + "<br>".join(f"{name} {short(value)}" for name, value in e.costs.items())
        for e in evaluations
    ]


def front_figure(results: RunResults, cost: str) -> go.Figure:
    """Every candidate, the front, the uniform baselines and dense, quality against one cost."""
    searched = [e for _, e in search_evaluations(results)]
    dense = [results.dense] if results.dense else []
    traces = [
        ("all candidates (search samples)", searched, {"mode": "markers", "marker": {"color": GREY, "opacity": 0.4}}),
        ("uniform", results.baselines, {"mode": "markers", "marker": {"color": ORANGE, "size": 9, "symbol": "square"}}),
        ("front", results.front, {"mode": "lines+markers", "line": {"color": BLUE}, "marker": {"size": 8}}),
        ("dense", dense, {"mode": "markers", "marker": {"color": GREEN, "size": 12, "symbol": "star"}}),
    ]  # fmt: skip
    figure = go.Figure()
    for name, evaluations, style in traces:
        evaluations = sorted(evaluations, key=lambda e: e.costs[cost])
        figure.add_trace(
            go.Scatter(
                x=[e.costs[cost] for e in evaluations],
                y=[e.quality for e in evaluations],
                name=name, text=_hover(results, evaluations), hoverinfo="text", **style,
            )
        )  # fmt: skip
    for rule, evaluation in results.picks().items():
        figure.add_annotation(x=evaluation.costs[cost], y=evaluation.quality, text=rule, showarrow=True, ax=35, ay=-25)
    # Ruined candidates would flatten everything that is worth a look.
    worth = [e.quality for e in [*results.front, *results.baselines]]
    figure.update_yaxes(title=results.quality, range=[-0.03 * max(worth), 1.1 * max(worth)] if worth else None)
    figure.update_xaxes(title=f"{cost} (dense {short(results.space.dense_costs[cost])})")
    figure.update_layout(height=480, **LAYOUT)
    return figure


def _heat_maps(results: RunResults) -> list[str]:
    divs, shown = [], set()
    for rule, evaluation in results.picks().items():
        if evaluation.genome in shown:
            continue
        shown.add(evaluation.genome)
        title = f"{rule} ({evaluation.genome.id}): {results.quality} {evaluation.quality:.4f}"
        data = heat_map(results, title, evaluation.genome)
        figure = go.Figure(
            go.Heatmap(
                z=data.removed, x=data.blocks, y=data.rows, zmin=0, zmax=1, colorscale="Cividis", reversescale=True,
                colorbar={"title": "removed", "tickformat": ".0%"}, hoverongaps=False,
                hovertemplate="block %{x}, %{y}: %{z:.1%} removed<extra></extra>",
            )
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed")
        figure.update_xaxes(title="block", dtick=max(1, len(data.blocks) // 16))
        figure.update_layout(title=title, height=140 + 32 * len(data.rows), **LAYOUT)
        divs.append(figure_div(figure))
    return divs


def progress_figure(results: RunResults) -> go.Figure:
    """Hypervolume over selection tokens spent and, where there are limits, the best quality within them."""
    volume = hypervolume_so_far(results)
    figure = go.Figure()
    figure.update_layout(height=360, xaxis_title="selection tokens spent", **LAYOUT)
    title = f"hypervolume ({' x '.join(results.objectives)})"
    style, axis = {"color": ORANGE, "dash": "dot"}, {"title": title, "rangemode": "tozero"}
    if results.space.bounds:
        best, name = best_so_far(results), f"best {results.quality} within limits"
        figure.add_trace(go.Scatter(x=best.tokens, y=best.values, name=name, line={"color": BLUE, "shape": "hv"}))
        right = {"side": "right", "showgrid": False, "overlaying": "y"}
        figure.update_layout(yaxis={"title": name}, yaxis2=axis | right)
    else:
        figure.update_layout(yaxis=axis)
    side = "y2" if results.space.bounds else "y"
    figure.add_trace(go.Scatter(x=volume.tokens, y=volume.values, name="hypervolume", yaxis=side, line=style))
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
        uniform = path[0].origin.startswith("uniform")
        name = "uniform" if uniform else "searched"
        figure.add_trace(
            go.Scatter(
                x=[f"{e.trained:,}" for e in path], y=[e.quality for e in path], name=name, legendgroup=name,
                showlegend=name not in named, mode="lines+markers", text=_hover(results, path), hoverinfo="text",
                line={"color": ORANGE if uniform else BLUE, "dash": "dot" if uniform else "solid"},
                marker={"symbol": "square" if uniform else "circle", "size": 7},
            )
        )  # fmt: skip
        named.add(name)
    figure.update_layout(height=380, **LAYOUT)
    figure.update_xaxes(title="training tokens", type="category")
    figure.update_yaxes(title=results.quality, rangemode="tozero")
    return figure


def _front_html(results: RunResults) -> str:
    test = json.loads(results.run.test.read_text()) if results.run.test.exists() else {}
    dense, picks = results.space.dense_costs, {e.genome.id: rule for rule, e in results.picks().items()}
    head = "".join(f"<th>{h}</th>" for h in ("id", "", results.quality, *dense, f"test {results.test_metric}"))
    rows = []
    on_front = {e.genome for e in results.front}
    others = [(e, "dense") for e in [results.dense] if e]
    others += [(e, e.origin) for e in results.baselines if e.genome not in on_front]
    for evaluation, name in [(e, picks.get(e.genome.id, "")) for e in results.front] + others:
        cells = [evaluation.genome.id, name, f"{evaluation.quality:.4f}"]
        cells += [f"{short(v)} ({v / max(dense[c], 1):.0%})" for c, v in evaluation.costs.items()]
        cells.append(f"{test[name_in_tests(evaluation)]:.4g}" if name_in_tests(evaluation) in test else "")
        mark = ' class="pick"' if name in picks.values() else ""
        rows.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _ledger_html(results: RunResults) -> str:
    sums: dict[str, list[float]] = {}
    for entry in results.run.lines(results.run.ledger):
        total = sums.setdefault(entry["phase"], [0.0, 0.0, 0.0, 0.0])
        for i, key in enumerate(("count", "tokens", "seconds", "device_seconds")):
            total[i] += entry.get(key, 0.0)
    rows = "".join(
        f"<tr><td>{html.escape(phase)}</td><td>{count:,.0f}</td><td>{tokens:,.0f}</td><td>{seconds:,.1f}</td>"
        f"<td>{f'{device:,.1f}' if device else ''}</td></tr>"
        for phase, (count, tokens, seconds, device) in sums.items()
    )
    heads = "".join(f"<th>{head}</th>" for head in ("phase", "steps", "tokens", "seconds", "device seconds"))
    return f"<table><tr>{heads}</tr>{rows}</table>"
