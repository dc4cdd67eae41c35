"""Audits that a run's report shows, and their figure: how well each proxy ranks candidates of the run's space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from sparsesearch.errors import SparseSearchError
from sparsesearch.media import BLUE, GREY, VERMILION
from sparsesearch.proxies.agreement import MIN_TAU
from sparsesearch.report.pages.page import LAYOUT
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.results import RunResults
from sparsesearch.runs.schemas import sound

# Symbols of agreement before and after training.
_SYMBOLS = ("circle", "diamond-open")
# Keys of the fingerprint that an audit and a search must share.
SHARED_KEYS = ("weights", "teacher", "data.calibration", "data.selection", "pruners")


def audits_of(results: RunResults) -> list[Path]:
    """Return the `audit.json` of every audit beside a run with the same network, units, data and quality."""
    return [path for path in sorted(results.run.path.parent.glob("*/audit.json")) if _same(results, path.parent)]


def _same(results: RunResults, directory: Path) -> bool:
    audit = RunDirectory(directory)
    fingerprint = results.info["fingerprint"]
    try:
        with sound(audit.info):
            other = audit.read(audit.info)["fingerprint"]
            same_quality = other["objectives"][0] == fingerprint["objectives"][0]
            shared = all(other.get(key) == fingerprint.get(key) for key in SHARED_KEYS)
        return same_quality and shared and audit.read_space().units == results.space.units
    except SparseSearchError:  # being written, or damaged
        return False


def proxy_colour(tau: float, control: bool) -> str:
    """Return the colour of a control, a proxy that can be trusted, or another proxy."""
    if control:
        return GREY
    return BLUE if tau >= MIN_TAU else VERMILION


def agreement_figure(audit: Mapping[str, Any]) -> go.Figure:
    """Plot Kendall's tau of every proxy with its interval, the best on top, also after training if it was measured.

    Args:
        audit: content of `audit.json`.
    """
    shown = [(name, proxy) for name, proxy in reversed(audit["proxies"].items()) if proxy["tau"] is not None]
    series = [("untrained", "tau")]
    if "training" in audit:
        series.append((f"after {audit['training']['tokens']:,} tokens", "tau_after"))
    figure = go.Figure()
    for (label, key), symbol in zip(series, _SYMBOLS, strict=False):
        drawn = [(name, proxy, proxy[key], proxy[f"{key}_range"]) for name, proxy in shown if proxy[key] is not None]
        high = [abs(interval[1] - tau) if interval[1] is not None else 0 for *_, tau, interval in drawn]
        low = [abs(tau - interval[0]) if interval[0] is not None else 0 for *_, tau, interval in drawn]
        colours = [proxy_colour(tau, proxy["control"]) for _, proxy, tau, _ in drawn]
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
    figure.update_xaxes(title=f"Kendall's tau with {audit['quality']}", range=[-1, 1])
    figure.update_yaxes(automargin=True)
    return figure
