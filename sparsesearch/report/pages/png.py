"""The report's figures as PNG and SVG, for papers and for machines without a browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.media import BLUE, GREEN, GREY, ORANGE, picture, save_picture
from sparsesearch.report.facts import (
    axis_scale,
    best_so_far,
    count_unit,
    hypervolume_so_far,
    layers,
    rows_of,
    rungs,
    search_evaluations,
)
from sparsesearch.report.lineage import Ancestry
from sparsesearch.report.pages.page import COLOURS
from sparsesearch.report.pages.runs_page import check_comparable, common_reference, run_labels
from sparsesearch.report.payload import picks_by_name
from sparsesearch.report.texts import axis_text, short_number
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation

# Markers in the order of COLOURS.
MARKERS = "osD^PX*p"
STYLES = ("-", "--", ":", "-.")
# Equal runs must write equal files.
SVG_SETTINGS = {"svg.hashsalt": "sparsesearch"}
# Distance between rows of a chart of layers, in heights of a full bar.
ROW_DISTANCE = 1.3
Draw = Callable[[Any], None]


def write_png(results: RunResults) -> list[Path]:
    """Write `front.png`, `picks.png` and `progress.png` into the run."""
    if not results.final:
        return []
    picks = picks_by_name(results)

    def stacked(figure: Any) -> None:
        axes = figure.subplots(len(picks), 1, squeeze=False)[:, 0]
        for subplot, (rules, evaluation) in zip(axes, picks.items(), strict=True):
            _layers(results, subplot, rules, evaluation)

    figures: dict[str, tuple[float, Draw]] = {
        "front": (4.5, lambda figure: draw_front(results, figure.subplots())),
        "progress": (3.5, lambda figure: _progress(results, figure.subplots())),
    }
    if picks:
        figures["picks"] = (len(picks) * _height(results), stacked)
    return [
        path
        for name, (height, draw) in figures.items()
        for path in _write(results.run.path, name, height, draw, suffixes=("png",))
    ]


def write_figures(results: RunResults) -> list[Path]:
    """Write the figures of a report into `figures/` of the run, each as PNG and SVG."""
    if not results.final:
        return []
    figures: dict[str, tuple[float, Draw]] = {
        "front": (4.5, lambda figure: draw_front(results, figure.subplots())),
        "hypervolume": (3.5, lambda figure: _volume(results, figure.subplots())),
        "rungs": (1.2 + 0.4 * len(rungs(results)), lambda figure: _rungs(results, figure.subplots())),
    }
    if results.front:
        figures["lineage"] = (4.0, lambda figure: _lineage(results, figure.subplots()))
    for rule, evaluation in results.picks().items():
        figures[f"layers-{rule}"] = _height(results), partial(_chart, results, rule, evaluation)
    folder = results.run.path / "figures"
    return [path for name, (height, draw) in figures.items() for path in _write(folder, name, height, draw)]


def write_runs_figures(runs: Sequence[RunResults], folder: Path) -> list[Path]:
    """Write the fronts and hypervolumes of several runs as PNG and SVG; raises as `check_comparable`."""
    check_comparable(runs)
    return _write(folder, "comparison", 8.5, lambda figure: _runs(runs, figure))


def _write(folder: Path, name: str, height: float, draw: Draw, suffixes: Sequence[str] = ("png", "svg")) -> list[Path]:
    import matplotlib

    paths = [folder / f"{name}.{suffix}" for suffix in suffixes]
    with picture(height) as figure, matplotlib.rc_context(SVG_SETTINGS):
        draw(figure)
        for path in paths:
            save_picture(figure, path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else {})
    return paths


def draw_front(results: RunResults, axes: Any) -> None:
    """Plot quality over the first cost for all candidates, the front, the uniform baselines and dense."""
    factor, label = axis_scale(results.objectives[1])

    def draw(evaluations: Sequence[Evaluation], name: str, style: str, **options: Any) -> None:
        _line(results, axes, evaluations, style, label=name, **options)

    draw([e for _, e in search_evaluations(results)], "all candidates", ".", color=GREY, alpha=0.4, zorder=1)
    draw(results.baselines, "uniform", "s:", color=ORANGE, markersize=8, markerfacecolor="none", markeredgewidth=1.5)
    draw(results.front, "front", "o-", color=BLUE)
    draw([results.dense] if results.dense else [], "dense", "*", color=GREEN, markersize=12)
    for rule, evaluation in picks_by_name(results).items():
        at = (evaluation.costs[results.objectives[1]] * factor, evaluation.quality)
        # No candidate is to the lower left of a front.
        axes.annotate(rule, at, xytext=(-5, -13), textcoords="offset points", fontsize=9, ha="right")
    _limit_qualities(axes, [*results.front, *results.baselines])
    axes.margins(x=0.1)
    axes.set(xlabel=label, ylabel=axis_text(results.quality), title=results.run.path.name)
    _shorten_ticks(axes)
    axes.legend()


def _line(results: RunResults, axes: Any, evaluations: Sequence[Evaluation], style: str, **options: Any) -> None:
    cost = results.objectives[1]
    factor, _ = axis_scale(cost)
    ordered = sorted(evaluations, key=lambda e: e.costs[cost])
    axes.plot([e.costs[cost] * factor for e in ordered], [e.quality for e in ordered], style, **options)


def _limit_qualities(axes: Any, evaluations: Sequence[Evaluation]) -> None:
    worst = max((e.quality for e in evaluations), default=0.0)
    if worst:
        axes.set_ylim(-0.1 * worst, 1.1 * worst)


def _shorten_ticks(axes: Any) -> None:
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))


def _progress(results: RunResults, axes: Any) -> None:
    if not results.space.bounds:
        _volume(results, axes)
        return
    curve = best_so_far(results)
    axes.step(curve.tokens, curve.values, where="post", color=BLUE)
    axes.set(xlabel=f"selection {count_unit(results)} spent", ylabel=f"best {results.quality} within limits")
    _shorten_ticks(axes)


def _volume(results: RunResults, axes: Any) -> None:
    curve = hypervolume_so_far(results)
    axes.step(curve.tokens, curve.values, where="post", color=BLUE)
    axes.set(xlabel=f"selection {count_unit(results)} spent", ylabel=f"hypervolume ({' x '.join(results.objectives)})")
    _shorten_ticks(axes)


def _rungs(results: RunResults, axes: Any) -> None:
    fidelities = rungs(results)
    bars = axes.barh([rung.name for rung in fidelities], [rung.tokens for rung in fidelities], color=BLUE)
    axes.bar_label(bars, [f"{rung.count:,} candidates" for rung in fidelities], padding=3, fontsize=8)
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set(xlabel=count_unit(results))
    _shorten_ticks(axes)


def _lineage(results: RunResults, axes: Any) -> None:
    ancestry, cost = Ancestry(results), results.objectives[1]
    factor, label = axis_scale(cost)
    for (rule, pick), colour, marker in zip(picks_by_name(results).items(), COLOURS, MARKERS, strict=False):
        steps = [step.evaluation for step in ancestry.chain(pick.genome)]
        x = [e.costs[cost] * factor for e in steps]
        axes.plot(x, [e.quality for e in steps], marker=marker, color=colour, label=rule, markersize=4)
    axes.set(xlabel=label, ylabel=axis_text(results.quality))
    _shorten_ticks(axes)
    axes.legend()


def _height(results: RunResults) -> float:
    """Return the height of a chart of layers, in inches."""
    return 1.0 + 0.55 * len(rows_of(results.space))


def _chart(results: RunResults, rule: str, evaluation: Evaluation, figure: Any) -> None:
    _layers(results, figure.subplots(), rule, evaluation)


def _layers(results: RunResults, axes: Any, rule: str, evaluation: Evaluation) -> None:
    """Plot the share of every layer that a candidate keeps, with a row of bars for each kind of unit."""
    data = layers(results.space, evaluation.genome)
    positions, bottoms = np.arange(len(data.blocks)), ROW_DISTANCE * np.arange(len(data.rows))[::-1]
    for bottom, kept in zip(bottoms, data.kept, strict=True):
        axes.bar(positions, np.where(np.isnan(kept), 0.0, 1.0), bottom=bottom, color="#e8e8e8")
        axes.bar(positions, np.nan_to_num(kept), bottom=bottom, color=BLUE)
    axes.set(yticks=bottoms + 0.5, yticklabels=data.rows)
    step = max(1, len(positions) // 16)
    axes.set(xticks=positions[::step], xticklabels=data.blocks[::step], xlabel="block")
    title = f"{rule} ({evaluation.genome.id}), share kept: {results.quality} {evaluation.quality:.4f}"
    axes.set_title(title, fontsize=10)


def _runs(runs: Sequence[RunResults], figure: Any) -> None:
    reference, (fronts, volumes) = common_reference(runs), figure.subplots(2, 1)
    for number, (results, name) in enumerate(zip(runs, run_labels(runs), strict=True)):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        _line(results, fronts, results.front, MARKERS[number % len(MARKERS)] + style, color=colour, label=name)
        curve = hypervolume_so_far(results, reference)
        volumes.step(curve.tokens, curve.values, style, where="post", color=colour, label=name)
    _limit_qualities(fronts, [e for results in runs for e in results.front])
    _, label = axis_scale(runs[0].objectives[1])
    fronts.set(xlabel=label, ylabel=axis_text(runs[0].quality))
    volumes.set(
        xlabel=f"selection {count_unit(runs[0])} spent", ylabel=f"hypervolume ({' x '.join(runs[0].objectives)})"
    )
    for axes in (fronts, volumes):
        _shorten_ticks(axes)
        axes.legend()
