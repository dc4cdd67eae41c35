"""`sparsesearch iterate`: prune a part of the way, recover, and search again on what was recovered, in stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, print_json, recipe_changes, run_path, say, usable


def iterate(
    recipe: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="A recipe of sparsity, with limits.")],
    stages: Annotated[int, typer.Option(min=2, max=100, help="Each removes the same share of what is there.")] = 3,
    train: Annotated[
        int, typer.Option(min=1, max=10**15, help="Training tokens (images) after each stage.")
    ] = 1_000_000,
    out: Annotated[Path, typer.Option(help="Directory to write; must not exist or be empty.")] = Path("iterated"),
    model: Annotated[str | None, typer.Option(help="demo, a model directory, or a hub id.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the runs, NAME-1, NAME-2, ...")] = None,
    results: Annotated[Path, typer.Option(help="Where they are kept.")] = Path("results"),
    limit: Annotated[list[str] | None, typer.Option(help="As 'sparsity>=70%'; replaces the recipe's limits.")] = None,
    calibration: Annotated[str | None, typer.Option(help="Text file or data set to calibrate on.")] = None,
    selection: Annotated[str | None, typer.Option(help="Text file or data set to select on.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any key.")] = None,
    json_: Json = False,
) -> None:
    """Iterative prune-and-search: search, recover and export, from each stage's model to the next.

    All stages are compared with, and distilled from, the first model. The same command goes on after an interruption.
    """
    from sparsesearch import api
    from sparsesearch.config import load_config

    changes = recipe_changes(model, limit, calibration, selection, set_)
    config = load_config(recipe, changes)
    first_path = run_path(results, f"{recipe.stem if name is None else name}-1")
    reports = api.iterate(recipe, first_path, usable(out, "--out"), stages=stages, train=train, changes=changes)
    if json_:
        print_json(reports)
        return
    for report in reports:
        say(
            f"stage {report['stage']}: {config.objectives[0]} {report['before']:.4g} before training, "
            f"{report['after']:.4g} after; {report['nonzeros']:,} nonzeros: {report['out']}"
        )
