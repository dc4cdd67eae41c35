"""`sparsesearch iterate`: prune in stages, each a search and a recovery, from the recovered model of the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import (
    Assignments,
    CalibrationSource,
    Json,
    RecipeModel,
    SelectionSource,
    print_json,
    recipe_changes,
    run_path,
    say,
    usable,
)


def iterate(
    recipe: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="A recipe with sparsity units and limits.")],
    stages: Annotated[
        int, typer.Option(min=2, max=100, help="Number of stages; each removes the same share of the rest.")
    ] = 3,
    train: Annotated[
        int, typer.Option(min=1, max=10**15, help="Training tokens (or images) after each stage.")
    ] = 1_000_000,
    out: Annotated[Path, typer.Option(help="Directory to write; must not exist or be empty.")] = Path("iterated"),
    model: RecipeModel = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the runs NAME-1, NAME-2, ... (default: the recipe's file name).")
    ] = None,
    results: Annotated[Path, typer.Option(help="Directory of all runs.")] = Path("results"),
    limit: Annotated[
        list[str] | None, typer.Option(help="Limit such as 'sparsity>=70%'; replaces the recipe's limits; repeatable.")
    ] = None,
    calibration: CalibrationSource = None,
    selection: SelectionSource = None,
    set_: Assignments = None,
    json_: Json = False,
) -> None:
    """Search, recover and export in stages, each on the model of the one before.

    All stages are compared with, and distilled from, the first model. The same command continues after an interruption.
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
