"""Audits that a run's report shows, and their figure: how well each proxy ranks candidates of the run's space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from sparsesearch.errors import SparseSearchError
from sparsesearch.proxies.agreement import MIN_TAU
from sparsesearch.report.pages.page import BLUE, GREY, LAYOUT, VERMILION
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.results import RunResults
from sparsesearch.runs.schemas import sound

# At once, after training.
_SYMBOLS = ("circle", "diamond-open")
# What an audit and a search must share for the one to say something of the other.
SHARED = ("weights", "teacher", "data.calibration", "data.selection", "pruners")


def audits_of(results: RunResults) -> list[Path]:
    """`audit.json` of every audit beside a run that is of the same network, units, data and quality."""
    return [path for path in sorted(results.run.path.parent.glob("*/audit.json")) if _same(results, path.parent)]


def _same(results: RunResults, place: Path) -> bool:
    audit = RunDirectory(place)
    own = results.info["fingerprint"]
    try:
        with sound(audit.info):
            known = audit.read(audit.info)["fingerprint"]
            same_quality = known["objectives"][0] == own["objectives"][0]
            shared = all(known.get(key) == own.get(key) for key in SHARED)
        return same_quality and shared and audit.read_space().units == results.space.units
    except SparseSearchError:  # not whole: being written, or damaged
        return False


def colour(tau: float, control: bool) -> str:
    """Of a proxy that can be trusted, a control, or a proxy below the line."""
    if control:
        return GREY
    return BLUE if tau >= MIN_TAU else VERMILION


def agreement_figure(found: Mapping[str, Any]) -> go.Figure:
    """Kendall's tau of every proxy with its interval, the best on top; after training beside it, where there is that.

    Args:
        found: the content of `audit.json`.
    """
    shown = [(name, each) for name, each in reversed(found["proxies"].items()) if each["tau"] is not None]
    series = [("at once", "tau")]
    if "training" in found:
        series.append((f"after {found['training']['tokens']:,} tokens", "tau_after"))
    figure = go.Figure()
    for (label, key), symbol in zip(series, _SYMBOLS, strict=False):
        drawn = [(name, each, each[key], each[f"{key}_range"]) for name, each in shown if each[key] is not None]
        high = [abs(interval[1] - tau) if interval[1] is not None else 0 for *_, tau, interval in drawn]
        low = [abs(tau - interval[0]) if interval[0] is not None else 0 for *_, tau, interval in drawn]
        colours = [colour(tau, each["control"]) for _, each, tau, _ in drawn]
        figure.add_scatter(
            x=[tau for *_, tau, _ in drawn],
            y=[name for name, *_ in drawn],
            mode="markers",
            name=label,
            marker={"color": colours, "size": 9, "symbol": symbol},
            error_x={"array": high, "arrayminus": low, "color": "#888", "thickness": 1},
        )
    figure.add_vline(x=MIN_TAU, line_dash="dot", line_color="#888", annotation_text=f"{MIN_TAU:g}")
    figure.add_vline(x=0, line_width=1, line_color="#888")
    figure.update_layout(height=120 + 26 * len(shown), scattermode="group", **LAYOUT)
    figure.update_xaxes(title=f"Kendall's tau with {found['quality']}", range=[-1, 1])
    figure.update_yaxes(automargin=True)
    return figure
