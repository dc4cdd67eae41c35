"""A comparison as a table, an HTML page and a PNG."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from rich.table import Table

from sparsesearch.media import picture, save_picture
from sparsesearch.report.comparison import Comparison, Series
from sparsesearch.report.pages.page import COLOURS, LAYOUT, card, figure_div, html_table, page, pair
from sparsesearch.report.texts import short

VOLUME = "hypervolume"


def comparison_table(found: Comparison) -> Table:
    """Every searcher at the end of its budget: quality at each size with its interval, hypervolume, seconds."""
    table = Table(title=f"Final {found.quality} on all selection data, mean over seeds [95 %]", title_justify="left")
    table.add_column("searcher")
    for head in (*found.sizes, *([VOLUME] if found.volume else []), "seconds"):
        table.add_column(head, justify="right")
    for name, series in found.at_size[found.sizes[0]].items():
        cells = [_last(found.at_size[size][name]) for size in found.sizes]
        cells += [_last(found.volume[name])] if found.volume else []
        table.add_row(name, *cells, f"{series.seconds[-1]:.0f}")
    return table


def _last(series: Series) -> str:
    mean, low, high = series.mean[-1], series.low[-1], series.high[-1]
    if not np.isfinite(mean):
        return "-"
    return f"{mean:.4f}" if low == high else f"{mean:.4f} [{low:.4f}, {high:.4f}]"


def comparison_json(found: Comparison) -> dict[str, Any]:
    """The same numbers, at every checkpoint; null where there is none."""

    def plain(series: Series) -> dict[str, Any]:
        table = {key: getattr(series, key).tolist() for key in ("tokens", "seconds", "mean", "low", "high")}
        return {key: [x if np.isfinite(x) else None for x in values] for key, values in table.items()}

    sizes = {size: {name: plain(s) for name, s in each.items()} for size, each in found.at_size.items()}
    return {"quality": found.quality, "sizes": sizes, VOLUME: {name: plain(s) for name, s in found.volume.items()}}


def charts(found: Comparison) -> dict[str, dict[str, Series]]:
    """What is drawn, by title."""
    titles = {f"best {found.quality} at {size}": each for size, each in found.at_size.items()}
    return titles | ({VOLUME: found.volume} if found.volume else {})


def write_page(found: Comparison, path: Path, title: str) -> None:
    """An HTML page: every number over tokens and over seconds."""
    sections = [Markup("<h1>{}</h1>").format(title), html_table(comparison_table(found))]
    for name, each in charts(found).items():
        figures = [card(figure_div(_figure(each, over, name))) for over in ("tokens", "seconds")]
        sections += [Markup("<h2>{}</h2>").format(name), pair(*figures)]
    page(path, title, sections)


def _figure(each: dict[str, Series], over: str, title: str) -> go.Figure:
    figure = go.Figure()
    for (name, series), colour in zip(each.items(), itertools.cycle(COLOURS), strict=False):
        x = getattr(series, over)
        band = {"x": [*x, *x[::-1]], "y": [*series.high, *series.low[::-1]]}
        figure.add_trace(
            go.Scatter(
                **band,
                fill="toself",
                fillcolor=colour,
                opacity=0.15,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=name,
            )
        )
        style = {"color": colour}
        figure.add_trace(go.Scatter(x=x, y=series.mean, name=name, mode="lines+markers", line=style, legendgroup=name))
    figure.update_layout(height=380, **LAYOUT)
    figure.update_xaxes(title="selection tokens" if over == "tokens" else "seconds of evaluation")
    figure.update_yaxes(title=title)
    return figure


def write_picture(found: Comparison, path: Path) -> None:
    """A PNG of every number over tokens."""
    drawn = charts(found)
    with picture(3.4 * len(drawn)) as figure:
        for axes, (title, each) in zip(figure.subplots(len(drawn), 1, squeeze=False)[:, 0], drawn.items(), strict=True):
            for (name, series), colour in zip(each.items(), itertools.cycle(COLOURS), strict=False):
                axes.plot(series.tokens, series.mean, "o-", color=colour, label=name, markersize=4)
                axes.fill_between(series.tokens, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
            axes.set(xlabel="selection tokens", ylabel=title)
            axes.xaxis.set_major_formatter(lambda value, _: short(value))
            axes.legend()
        save_picture(figure, path, dpi=150)
