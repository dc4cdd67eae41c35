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
from sparsesearch.files import json_number
from sparsesearch.media import picture, save_picture
from sparsesearch.proxies.agreement import MIN_TAU, Agreement
from sparsesearch.report.pages.page import LAYOUT, card, figure_div, html_table, write_html
from sparsesearch.report.pages.proxy_agreement import agreement_figure, proxy_colour


def audit_table(audit: Audit) -> Table:
    """Return a table of all proxies, the best first."""
    title = f"Rank correlation with {audit.quality}, {len(audit.candidates)} candidates at {', '.join(audit.limits)}"
    table = Table(title=title, title_justify="left")
    table.add_column("proxy")
    second = f"tau after {audit.training_tokens:,} tokens" if audit.training_tokens else "Spearman rho"
    for head in ("Kendall tau", second, "seconds", ""):
        table.add_column(head, justify="right")
    if audit.training_tokens:
        before = audit.trained_agreements[audit.quality]
        table.add_row(f"{audit.quality}, untrained", "", _range(before.tau, before.tau_range), "", "")
    controls = [agreement for agreement in audit.agreements if agreement.proxy in CONTROLS]
    for agreement in audit.agreements:
        if audit.training_tokens:
            trained = audit.trained_agreements[agreement.proxy]
            other_range = _range(trained.tau, trained.tau_range)
        else:
            other_range = _range(agreement.rho, agreement.rho_range)
        seconds = f"{audit.seconds[agreement.proxy]:.2g}"
        table.add_row(
            agreement.proxy,
            _range(agreement.tau, agreement.tau_range),
            other_range,
            seconds,
            verdict(agreement, controls),
        )
    return table


def verdict(agreement: Agreement, controls: Sequence[Agreement]) -> str:
    """Return the meaning of an agreement for a search, in a few words."""
    if agreement.note:
        return agreement.note
    if agreement.proxy in CONTROLS:
        return "control"
    if agreement.tau < MIN_TAU:
        return "too weak to use alone"
    best = max(controls, key=lambda control: control.tau if math.isfinite(control.tau) else -math.inf)
    return f"no better than {best.proxy}" if best.tau >= agreement.tau else "usable"


def _range(value: float, interval: tuple[float, float]) -> str:
    if not math.isfinite(value):
        return "-"
    shown = [f"{x:.2f}".replace("0.", ".", 1) for x in (value, *interval)]
    return shown[0] + (f" [{shown[1]}, {shown[2]}]" if math.isfinite(interval[0]) else "")


def audit_json(audit: Audit) -> dict[str, Any]:
    """Return the numbers of the table and of every candidate; null for missing ones."""

    def tau(agreement: Agreement, name: str = "tau") -> dict[str, Any]:
        return {name: json_number(agreement.tau), f"{name}_range": [json_number(x) for x in agreement.tau_range]}

    proxies = {
        agreement.proxy: {
            **tau(agreement),
            "rho": json_number(agreement.rho),
            "rho_range": [json_number(x) for x in agreement.rho_range],
            "seconds": audit.seconds[agreement.proxy],
            "control": agreement.proxy in CONTROLS,
            "note": agreement.note,
        }
        | (tau(audit.trained_agreements[agreement.proxy], "tau_after") if audit.training_tokens else {})
        for agreement in audit.agreements
    }
    candidates = [
        {
            "id": e.genome.id,
            audit.quality: e.quality,
            "costs": e.costs,
            "scores": {name: json_number(float(scores[i])) for name, scores in audit.scores.items()},
        }
        | ({f"{audit.quality}_after": json_number(float(audit.trained_qualities[i]))} if audit.training_tokens else {})
        for i, e in enumerate(audit.candidates)
    ]
    numbers = {"quality": audit.quality, "limits": audit.limits, "proxies": proxies, "candidates": candidates}
    if not audit.training_tokens:
        return numbers
    training = {"tokens": audit.training_tokens} | tau(audit.trained_agreements[audit.quality], "tau_before")
    return numbers | {"training": training}


def write_page(audit: Audit, path: Path, title: str) -> None:
    """Write an HTML page: correlations with their intervals, and each proxy's scores over the quality."""
    intervals = card(figure_div(agreement_figure(audit_json(audit))))
    sections = [Markup("<h1>{}</h1>").format(title), html_table(audit_table(audit)), intervals]
    for agreement in audit.agreements:
        if math.isfinite(agreement.tau):
            sections += [Markup("<h2>{}</h2>").format(agreement.proxy), card(figure_div(_scatter(audit, agreement)))]
    write_html(path, title, sections)


def _series(audit: Audit) -> list[tuple[str, list[Agreement]]]:
    """Return (name, agreements, worst first) of the plotted series: before training and, if measured, after it."""
    shown = [agreement for agreement in reversed(audit.agreements) if math.isfinite(agreement.tau)]
    series = [("untrained", shown)]
    if audit.training_tokens:
        series.append(
            (
                f"after {audit.training_tokens:,} tokens",
                [audit.trained_agreements[agreement.proxy] for agreement in shown],
            )
        )
    return series


def _scatter(audit: Audit, agreement: Agreement) -> go.Figure:
    figure = go.Figure(
        go.Scatter(
            x=audit.scores[agreement.proxy],
            y=[e.quality for e in audit.candidates],
            mode="markers",
            marker={"color": proxy_colour(agreement.tau, agreement.proxy in CONTROLS)},
            text=[e.genome.id for e in audit.candidates],
        )
    )
    figure.update_layout(height=320, **LAYOUT)
    figure.update_xaxes(title=agreement.proxy)
    figure.update_yaxes(title=audit.quality)
    return figure


def write_picture(audit: Audit, path: Path) -> None:
    """Write a PNG of the correlations."""
    series = _series(audit)
    names, count = [agreement.proxy for agreement in series[0][1]], len(audit.candidates)
    with picture(1 + 0.3 * len(names)) as figure:
        axes = figure.subplots()
        for number, ((name, shown), marker) in enumerate(zip(series, "oD", strict=False)):
            for row, agreement in enumerate(shown):
                height, drawn = row + 0.3 * number, proxy_colour(agreement.tau, agreement.proxy in CONTROLS)
                axes.plot(agreement.tau_range, [height, height], color=drawn, linewidth=1.5)
                face, label = ("none" if number else drawn), (None if row else name)
                axes.plot(
                    agreement.tau, height, marker, color=drawn, markerfacecolor=face, linestyle="none", label=label
                )
        axes.axvline(MIN_TAU, linestyle=":", color="black", linewidth=1)
        axes.axvline(0, color="black", linewidth=0.5)
        axes.set(
            yticks=range(len(names)),
            yticklabels=names,
            xlim=(-1, 1),
            xlabel=f"Kendall's tau with {audit.quality}, {count} candidates at {', '.join(audit.limits)}",
        )
        if audit.training_tokens:
            axes.legend(loc="upper left")
        save_picture(figure, path, dpi=150)
