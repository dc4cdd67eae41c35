"""`sparsesearch track`: a run in TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

from typing import Annotated

import typer

from sparsesearch.cli.options import RunArgument, say


def track(
    run: RunArgument,
    to: Annotated[str, typer.Option(help="Tracker: tensorboard, mlflow, wandb, or one of a plug-in.")] = "tensorboard",
    watch: Annotated[bool, typer.Option("--watch", help="Follow a running search until it ends.")] = False,
) -> None:
    """Write the course of a search by evaluation: hypervolume, best quality, tokens, evaluations a second.

    It is read from the run's files, so it can be written again at any time and replaces the earlier course (Weights &
    Biases keeps both).
    """
    from sparsesearch.api import Run

    count, place = Run.open(run).track(to, watch)
    say(f"{count} points: {place}")
