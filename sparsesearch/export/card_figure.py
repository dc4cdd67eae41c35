"""The figure of an export's model card: the candidate among the other candidates of its run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsesearch.media import BLUE, GREEN, ORANGE, VERMILION, picture, save_picture
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation

FIGURE = "front.png"


def write_figure(results: RunResults, candidate: Evaluation, path: Path) -> None:
    """Write a PNG of the run's front, uniform candidates, dense, and the candidate."""
    cost = results.objectives[1] if len(results.objectives) > 1 else "params"

    def draw(axes: Any, evaluations: Sequence[Evaluation], label: str, style: str, **options: Any) -> None:
        ordered = sorted(evaluations, key=lambda e: e.costs[cost])
        axes.plot([e.costs[cost] for e in ordered], [e.quality for e in ordered], style, label=label, **options)

    with picture(4.5) as figure:
        axes = figure.subplots()
        draw(axes, results.front, "front", "o-", color=BLUE)
        draw(axes, results.baselines, "uniform", "s", color=ORANGE)
        draw(axes, [results.dense] if results.dense else [], "dense", "*", color=GREEN, markersize=12)
        draw(
            axes,
            [candidate],
            f"this model ({candidate.genome.id})",
            "D",
            color=VERMILION,
            markersize=9,
            fillstyle="none",
        )
        axes.set(xlabel=cost, ylabel=f"{results.quality} on selection data")
        axes.legend()
        save_picture(figure, path, dpi=120)
