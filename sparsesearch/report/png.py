"""PNG twins of the report's figures, for papers and for places without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparsesearch.engine.results import RunResults
from sparsesearch.report.data import best_so_far, heat_map, hypervolume_so_far, search_evaluations
from sparsesearch.report.html import BLUE, GREEN, GREY, ORANGE


def write_png(results: RunResults) -> list[Path]:
    """Write `front.png`, `picks.png` and `progress.png` into the run."""
    from matplotlib.figure import Figure

    if not results.final:
        return []
    folder = results.run.path
    front = Figure(figsize=(7, 4.5), layout="constrained")
    draw_front(results, front.subplots())
    progress = Figure(figsize=(7, 3.5), layout="constrained")
    _progress(results, progress.subplots())
    picks = {e.genome: rule for rule, e in results.picks().items()}
    heat = Figure(figsize=(7, 1 + 2.2 * max(len(picks), 1)), layout="constrained")
    if picks:
        for axes, (genome, rule) in zip(heat.subplots(len(picks), 1, squeeze=False)[:, 0], picks.items(), strict=True):
            _heat(results, axes, rule, genome)
    paths = [folder / "front.png", folder / "picks.png", folder / "progress.png"]
    for figure, path in zip((front, heat, progress), paths, strict=True):
        figure.savefig(path, dpi=150)
    return paths


def draw_front(results: RunResults, axes: Any) -> None:
    """Every candidate, the front, the uniform baselines and dense, quality against the first cost."""
    cost = results.objectives[1]

    def draw(evaluations: Any, label: str, style: str, **options: Any) -> None:
        ordered = sorted(evaluations, key=lambda e: e.costs[cost])
        axes.plot([e.costs[cost] for e in ordered], [e.quality for e in ordered], style, label=label, **options)

    draw([e for _, e in search_evaluations(results)], "all candidates", ".", color=GREY, alpha=0.4, zorder=1)
    draw(results.baselines, "uniform", "s", color=ORANGE)
    draw(results.front, "front", "o-", color=BLUE)
    draw([results.dense] if results.dense else [], "dense", "*", color=GREEN, markersize=12)
    worth = [e.quality for e in [*results.front, *results.baselines]]
    if worth:
        axes.set_ylim(-0.03 * max(worth), 1.1 * max(worth))
    axes.set(xlabel=cost, ylabel=results.quality, title=results.run.path.name)
    axes.legend()


def _progress(results: RunResults, axes: Any) -> None:
    limited = bool(results.space.bounds)
    curve = best_so_far(results) if limited else hypervolume_so_far(results)
    axes.step(curve.tokens, curve.values, where="post", color=BLUE)
    name = f"best {results.quality} within limits" if limited else "hypervolume"
    axes.set(xlabel="selection tokens spent", ylabel=name)


def _heat(results: RunResults, axes: Any, rule: str, genome: Any) -> None:
    data = heat_map(results, rule, genome)
    image = axes.imshow(data.removed, vmin=0, vmax=1, cmap="cividis_r", aspect="auto")
    axes.set_yticks(range(len(data.rows)), data.rows)
    axes.set(xlabel="block", title=f"{rule} ({genome.id}), fraction removed")
    axes.figure.colorbar(image, ax=axes)
