"""PNG and SVG twins of the report's figures, for papers and for places without a browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.media import picture, save_picture
from sparsesearch.report.facts import (
    best_so_far,
    counted,
    hypervolume_so_far,
    layers,
    rows_of,
    rungs,
    scale,
    search_evaluations,
)
from sparsesearch.report.lineage import Ancestry
from sparsesearch.report.pages.page import BLUE, COLOURS, GREEN, GREY, ORANGE
from sparsesearch.report.pages.runs_page import check_comparable, common_reference, labels
from sparsesearch.report.payload import picked
from sparsesearch.report.texts import axis_text, short
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation

# In the order of COLOURS.
MARKERS = "osD^PX*p"
STYLES = ("-", "--", ":", "-.")
# So that equal runs write equal files.
SVG = {"svg.hashsalt": "sparsesearch"}
# From one row of a chart of layers to the next, in heights of a full bar.
BAND = 1.3
Draw = Callable[[Any], None]


def write_png(results: RunResults) -> list[Path]:
    """Write `front.png`, `picks.png` and `progress.png` into the run."""
    if not results.final:
        return []
    picks = picked(results)

    def stacked(figure: Any) -> None:
        axes = figure.subplots(len(picks), 1, squeeze=False)[:, 0]
        for one, (rules, evaluation) in zip(axes, picks.items(), strict=True):
            _layers(results, one, rules, evaluation)

    drawn: dict[str, tuple[float, Draw]] = {
        "front": (4.5, lambda figure: draw_front(results, figure.subplots())),
        "progress": (3.5, lambda figure: _progress(results, figure.subplots())),
    }
    if picks:
        drawn["picks"] = (len(picks) * _height(results), stacked)
    return [path for name, each in drawn.items() for path in _written(results.run.path, name, *each, suffixes=("png",))]


def write_figures(results: RunResults) -> list[Path]:
    """Write the figures of a report into `figures/` of the run, each as PNG and SVG."""
    if not results.final:
        return []
    drawn: dict[str, tuple[float, Draw]] = {
        "front": (4.5, lambda figure: draw_front(results, figure.subplots())),
        "hypervolume": (3.5, lambda figure: _volume(results, figure.subplots())),
        "rungs": (1.2 + 0.4 * len(rungs(results)), lambda figure: _rungs(results, figure.subplots())),
    }
    if results.front:
        drawn["lineage"] = (4.0, lambda figure: _lineage(results, figure.subplots()))
    for rule, evaluation in results.picks().items():
        drawn[f"layers-{rule}"] = _height(results), partial(_chart, results, rule, evaluation)
    folder = results.run.path / "figures"
    return [path for name, each in drawn.items() for path in _written(folder, name, *each)]


def write_runs_figures(runs: Sequence[RunResults], folder: Path) -> list[Path]:
    """Write the fronts and hypervolumes of several runs as PNG and SVG; raises as `check_comparable`."""
    check_comparable(runs)
    return _written(folder, "comparison", 8.5, lambda figure: _runs(runs, figure))


def _written(
    folder: Path, name: str, height: float, draw: Draw, suffixes: Sequence[str] = ("png", "svg")
) -> list[Path]:
    import matplotlib

    paths = [folder / f"{name}.{suffix}" for suffix in suffixes]
    with picture(height) as figure, matplotlib.rc_context(SVG):
        draw(figure)
        for path in paths:
            save_picture(figure, path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else {})
    return paths


def draw_front(results: RunResults, axes: Any) -> None:
    """Every candidate, the front, the uniform baselines and dense, quality against the first cost."""
    factor, label = scale(results.objectives[1])

    def draw(evaluations: Sequence[Evaluation], name: str, style: str, **options: Any) -> None:
        _line(results, axes, evaluations, style, label=name, **options)

    draw([e for _, e in search_evaluations(results)], "all candidates", ".", color=GREY, alpha=0.4, zorder=1)
    draw(results.baselines, "uniform", "s:", color=ORANGE, markersize=8, markerfacecolor="none", markeredgewidth=1.5)
    draw(results.front, "front", "o-", color=BLUE)
    draw([results.dense] if results.dense else [], "dense", "*", color=GREEN, markersize=12)
    for rule, evaluation in picked(results).items():
        at = (evaluation.costs[results.objectives[1]] * factor, evaluation.quality)
        # Nothing lies to the lower left of a front.
        axes.annotate(rule, at, xytext=(-5, -13), textcoords="offset points", fontsize=9, ha="right")
    _limit_worth(axes, [*results.front, *results.baselines])
    axes.margins(x=0.1)
    axes.set(xlabel=label, ylabel=axis_text(results.quality), title=results.run.path.name)
    _short(axes)
    axes.legend()


def _line(results: RunResults, axes: Any, evaluations: Sequence[Evaluation], style: str, **options: Any) -> None:
    cost = results.objectives[1]
    factor, _ = scale(cost)
    ordered = sorted(evaluations, key=lambda e: e.costs[cost])
    axes.plot([e.costs[cost] * factor for e in ordered], [e.quality for e in ordered], style, **options)


def _limit_worth(axes: Any, evaluations: Sequence[Evaluation]) -> None:
    worst = max((e.quality for e in evaluations), default=0.0)
    if worst:
        axes.set_ylim(-0.1 * worst, 1.1 * worst)


def _short(axes: Any) -> None:
    axes.xaxis.set_major_formatter(lambda value, _: short(value))


def _progress(results: RunResults, axes: Any) -> None:
    if not results.space.bounds:
        _volume(results, axes)
        return
    curve = best_so_far(results)
    axes.step(curve.tokens, curve.values, where="post", color=BLUE)
    axes.set(xlabel=f"selection {counted(results)} spent", ylabel=f"best {results.quality} within limits")
    _short(axes)


def _volume(results: RunResults, axes: Any) -> None:
    curve = hypervolume_so_far(results)
    axes.step(curve.tokens, curve.values, where="post", color=BLUE)
    axes.set(xlabel=f"selection {counted(results)} spent", ylabel=f"hypervolume ({' x '.join(results.objectives)})")
    _short(axes)


def _rungs(results: RunResults, axes: Any) -> None:
    found = rungs(results)
    bars = axes.barh([rung.name for rung in found], [rung.tokens for rung in found], color=BLUE)
    axes.bar_label(bars, [f"{rung.count:,} candidates" for rung in found], padding=3, fontsize=8)
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set(xlabel=counted(results))
    _short(axes)


def _lineage(results: RunResults, axes: Any) -> None:
    ancestry, cost = Ancestry(results), results.objectives[1]
    factor, label = scale(cost)
    for (rule, pick), colour, marker in zip(picked(results).items(), COLOURS, MARKERS, strict=False):
        steps = [step.evaluation for step in ancestry.chain(pick.genome)]
        x = [e.costs[cost] * factor for e in steps]
        axes.plot(x, [e.quality for e in steps], marker=marker, color=colour, label=rule, markersize=4)
    axes.set(xlabel=label, ylabel=axis_text(results.quality))
    _short(axes)
    axes.legend()


def _height(results: RunResults) -> float:
    """Of a chart of layers, in inches."""
    return 1.0 + 0.55 * len(rows_of(results.space))


def _chart(results: RunResults, rule: str, evaluation: Evaluation, figure: Any) -> None:
    _layers(results, figure.subplots(), rule, evaluation)


def _layers(results: RunResults, axes: Any, rule: str, evaluation: Evaluation) -> None:
    """What a candidate keeps of every layer: a band for each kind of unit, full where all is kept."""
    data = layers(results.space, evaluation.genome)
    place, bottoms = np.arange(len(data.blocks)), BAND * np.arange(len(data.rows))[::-1]
    for bottom, kept in zip(bottoms, data.kept, strict=True):
        axes.bar(place, np.where(np.isnan(kept), 0.0, 1.0), bottom=bottom, color="#e8e8e8")
        axes.bar(place, np.nan_to_num(kept), bottom=bottom, color=BLUE)
    axes.set(yticks=bottoms + 0.5, yticklabels=data.rows)
    step = max(1, len(place) // 16)
    axes.set(xticks=place[::step], xticklabels=data.blocks[::step], xlabel="block")
    title = f"{rule} ({evaluation.genome.id}), share kept: {results.quality} {evaluation.quality:.4f}"
    axes.set_title(title, fontsize=10)


def _runs(runs: Sequence[RunResults], figure: Any) -> None:
    reference, (fronts, volumes) = common_reference(runs), figure.subplots(2, 1)
    for number, (results, name) in enumerate(zip(runs, labels(runs), strict=True)):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        _line(results, fronts, results.front, MARKERS[number % len(MARKERS)] + style, color=colour, label=name)
        curve = hypervolume_so_far(results, reference)
        volumes.step(curve.tokens, curve.values, style, where="post", color=colour, label=name)
    _limit_worth(fronts, [e for each in runs for e in each.front])
    _, label = scale(runs[0].objectives[1])
    fronts.set(xlabel=label, ylabel=axis_text(runs[0].quality))
    volumes.set(xlabel=f"selection {counted(runs[0])} spent", ylabel=f"hypervolume ({' x '.join(runs[0].objectives)})")
    for axes in (fronts, volumes):
        _short(axes)
        axes.legend()
