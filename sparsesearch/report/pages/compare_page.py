"""A comparison as a table, an HTML page and a PNG."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from rich.table import Table

from sparsesearch.files import json_number
from sparsesearch.media import picture, save_picture
from sparsesearch.report.comparison import Comparison, SeedSeries
from sparsesearch.report.pages.page import COLOURS, LAYOUT, card, figure_div, html_table, pair, write_html
from sparsesearch.report.texts import short_number

VOLUME = "hypervolume"


def comparison_table(comparison: Comparison) -> Table:
    """Return a table of searchers at the end of their budget: quality at each size, hypervolume, seconds."""
    table = Table(
        title=f"Final {comparison.quality} on all selection data, mean over seeds [95 %]", title_justify="left"
    )
    table.add_column("searcher")
    for head in (*comparison.sizes, *([VOLUME] if comparison.volume else []), "seconds"):
        table.add_column(head, justify="right")
    for name, series in comparison.at_size[comparison.sizes[0]].items():
        cells = [_last(comparison.at_size[size][name]) for size in comparison.sizes]
        cells += [_last(comparison.volume[name])] if comparison.volume else []
        table.add_row(name, *cells, f"{series.seconds[-1]:.0f}")
    return table


def _last(series: SeedSeries) -> str:
    mean, low, high = series.mean[-1], series.low[-1], series.high[-1]
    if not np.isfinite(mean):
        return "-"
    return f"{mean:.4f}" if low == high else f"{mean:.4f} [{low:.4f}, {high:.4f}]"


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return the numbers at every checkpoint; null for missing ones."""

    def plain(series: SeedSeries) -> dict[str, Any]:
        table = {key: getattr(series, key).tolist() for key in ("tokens", "seconds", "mean", "low", "high")}
        return {key: [json_number(x) for x in values] for key, values in table.items()}

    sizes = {size: {name: plain(s) for name, s in series.items()} for size, series in comparison.at_size.items()}
    return {
        "quality": comparison.quality,
        "sizes": sizes,
        VOLUME: {name: plain(s) for name, s in comparison.volume.items()},
    }


def charts(comparison: Comparison) -> dict[str, dict[str, SeedSeries]]:
    """Return the series of each chart, by title and searcher."""
    titles = {f"best {comparison.quality} at {size}": series for size, series in comparison.at_size.items()}
    return titles | ({VOLUME: comparison.volume} if comparison.volume else {})


def write_page(comparison: Comparison, path: Path, title: str) -> None:
    """Write an HTML page: every number over tokens and over seconds."""
    sections = [Markup("<h1>{}</h1>").format(title), html_table(comparison_table(comparison))]
    for name, series in charts(comparison).items():
        figures = [card(figure_div(_figure(series, over, name))) for over in ("tokens", "seconds")]
        sections += [Markup("<h2>{}</h2>").format(name), pair(*figures)]
    write_html(path, title, sections)


def _figure(by_searcher: dict[str, SeedSeries], over: str, title: str) -> go.Figure:
    figure = go.Figure()
    for (name, series), colour in zip(by_searcher.items(), itertools.cycle(COLOURS), strict=False):
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


def write_picture(comparison: Comparison, path: Path) -> None:
    """Write a PNG of every number over tokens."""
    by_title = charts(comparison)
    with picture(3.4 * len(by_title)) as figure:
        subplots = figure.subplots(len(by_title), 1, squeeze=False)[:, 0]
        for axes, (title, by_searcher) in zip(subplots, by_title.items(), strict=True):
            for (name, series), colour in zip(by_searcher.items(), itertools.cycle(COLOURS), strict=False):
                axes.plot(series.tokens, series.mean, "o-", color=colour, label=name, markersize=4)
                axes.fill_between(series.tokens, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
            axes.set(xlabel="selection tokens", ylabel=title)
            axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
            axes.legend()
        save_picture(figure, path, dpi=150)
