"""An audit as a table, an HTML page and a PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from rich.table import Table

from sparsesearch.engine.workflows.audit import CONTROLS, Audit
from sparsesearch.media import picture, save_picture
from sparsesearch.proxies.agreement import MIN_TAU, Agreement
from sparsesearch.report.pages.page import LAYOUT, card, figure_div, html_table, page
from sparsesearch.report.pages.proxy_agreement import agreement_figure, colour


def audit_table(found: Audit) -> Table:
    """Every proxy, best first."""
    title = f"Rank correlation with {found.quality}, {len(found.candidates)} candidates at {', '.join(found.limits)}"
    table = Table(title=title, title_justify="left")
    table.add_column("proxy")
    # What both say at once needs no column of its own.
    second = f"tau after {found.train:,} tokens" if found.train else "Spearman rho"
    for head in ("Kendall tau", second, "seconds", ""):
        table.add_column(head, justify="right")
    if found.train:
        before = found.after[found.quality]
        table.add_row(f"{found.quality}, untrained", "", _range(before.tau, before.tau_range), "", "")
    controls = [one for one in found.agreements if one.proxy in CONTROLS]
    for one in found.agreements:
        other = found.after[one.proxy] if found.train else one
        other_range = _range(other.tau, other.tau_range) if found.train else _range(one.rho, one.rho_range)
        seconds = f"{found.seconds[one.proxy]:.2g}"
        table.add_row(one.proxy, _range(one.tau, one.tau_range), other_range, seconds, verdict(one, controls))
    return table


def verdict(one: Agreement, controls: Sequence[Agreement]) -> str:
    """What an agreement means for a search, in a word or two."""
    if one.note:
        return one.note
    if one.proxy in CONTROLS:
        return "control"
    if one.tau < MIN_TAU:
        return "not alone"
    best = max(controls, key=lambda control: control.tau if math.isfinite(control.tau) else -math.inf)
    return f"no better than {best.proxy}" if best.tau >= one.tau else "usable"


def _range(value: float, interval: tuple[float, float]) -> str:
    if not math.isfinite(value):
        return "-"
    shown = [f"{x:.2f}".replace("0.", ".", 1) for x in (value, *interval)]
    return shown[0] + (f" [{shown[1]}, {shown[2]}]" if math.isfinite(interval[0]) else "")


def audit_json(found: Audit) -> dict[str, Any]:
    """The same numbers, and every candidate's; null where there is none."""

    def plain(value: float) -> float | None:
        return value if math.isfinite(value) else None

    def tau(one: Agreement, name: str = "tau") -> dict[str, Any]:
        return {name: plain(one.tau), f"{name}_range": [plain(x) for x in one.tau_range]}

    proxies = {
        one.proxy: {
            **tau(one),
            "rho": plain(one.rho),
            "rho_range": [plain(x) for x in one.rho_range],
            "seconds": found.seconds[one.proxy],
            "control": one.proxy in CONTROLS,
            "note": one.note,
        }
        | (tau(found.after[one.proxy], "tau_after") if found.train else {})
        for one in found.agreements
    }
    candidates = [
        {
            "id": e.genome.id,
            found.quality: e.quality,
            "costs": e.costs,
            "scores": {name: plain(float(scores[i])) for name, scores in found.scores.items()},
        }
        | ({f"{found.quality}_after": plain(float(found.trained[i]))} if found.train else {})
        for i, e in enumerate(found.candidates)
    ]
    numbers = {"quality": found.quality, "limits": found.limits, "proxies": proxies, "candidates": candidates}
    if not found.train:
        return numbers
    return numbers | {"training": {"tokens": found.train} | tau(found.after[found.quality], "tau_before")}


def write_page(found: Audit, path: Path, title: str) -> None:
    """An HTML page: correlations with their intervals, and each proxy's scores over the quality."""
    intervals = card(figure_div(agreement_figure(audit_json(found))))
    sections = [Markup("<h1>{}</h1>").format(title), html_table(audit_table(found)), intervals]
    for one in found.agreements:
        if math.isfinite(one.tau):
            sections += [Markup("<h2>{}</h2>").format(one.proxy), card(figure_div(_scatter(found, one)))]
    page(path, title, sections)


def _series(found: Audit) -> list[tuple[str, list[Agreement]]]:
    """What the picture shows, agreements worst first: with the quality at once, and with that after training."""
    shown = [one for one in reversed(found.agreements) if math.isfinite(one.tau)]
    series = [("at once", shown)]
    if found.train:
        series.append((f"after {found.train:,} tokens", [found.after[one.proxy] for one in shown]))
    return series


def _scatter(found: Audit, one: Agreement) -> go.Figure:
    figure = go.Figure(
        go.Scatter(
            x=found.scores[one.proxy],
            y=[e.quality for e in found.candidates],
            mode="markers",
            marker={"color": colour(one.tau, one.proxy in CONTROLS)},
            text=[e.genome.id for e in found.candidates],
        )
    )
    figure.update_layout(height=320, **LAYOUT)
    figure.update_xaxes(title=one.proxy)
    figure.update_yaxes(title=found.quality)
    return figure


def write_picture(found: Audit, path: Path) -> None:
    """A PNG of the correlations."""
    series = _series(found)
    names, count = [one.proxy for one in series[0][1]], len(found.candidates)
    with picture(1 + 0.3 * len(names)) as figure:
        axes = figure.subplots()
        for number, ((name, shown), marker) in enumerate(zip(series, "oD", strict=False)):
            for row, one in enumerate(shown):
                height, drawn = row + 0.3 * number, colour(one.tau, one.proxy in CONTROLS)
                axes.plot(one.tau_range, [height, height], color=drawn, linewidth=1.5)
                face, label = ("none" if number else drawn), (None if row else name)
                axes.plot(one.tau, height, marker, color=drawn, markerfacecolor=face, linestyle="none", label=label)
        axes.axvline(MIN_TAU, linestyle=":", color="black", linewidth=1)
        axes.axvline(0, color="black", linewidth=0.5)
        axes.set(
            yticks=range(len(names)),
            yticklabels=names,
            xlim=(-1, 1),
            xlabel=f"Kendall's tau with {found.quality}, {count} candidates at {', '.join(found.limits)}",
        )
        if found.train:
            axes.legend(loc="upper left")
        save_picture(figure, path, dpi=150)
