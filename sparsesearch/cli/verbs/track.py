"""`sparsesearch track`: a run in TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import RunArgument, say


def track(
    run: RunArgument,
    to: Annotated[str, typer.Option(help="tensorboard | mlflow | wandb")] = "tensorboard",
    watch: Annotated[bool, typer.Option("--watch", help="Follow a running search until it ends.")] = False,
) -> None:
    """Write what a search reached, evaluation by evaluation: hypervolume, best quality, tokens, evaluations a second.

    It is read from the run's files, so that it can be made anew at any time; what was there of the run is replaced
    (Weights & Biases keeps it and gets another one).
    """
    from sparsesearch.runs.results import RunResults
    from sparsesearch.tracking import follow, open_tracker

    path = Path(run)
    tracker = open_tracker(to, RunResults(path))
    count = follow(path, tracker, watch)
    say(f"{count} points: {tracker.location}")
