"""`sparsesearch iterate`: prune a part of the way, recover, and search again on what was recovered, in stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, print_json, recipe_changes, say, usable
from sparsesearch.cli.verbs.search import run_path


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
    from transformers.utils import logging

    from sparsesearch.config import load_config
    from sparsesearch.engine.launch.access import TRUSTED
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.engine.workflows.iterate import (
        changes_of_stage,
        check_stages,
        exported,
        recovered_stage,
        searched_stage,
    )
    from sparsesearch.export import export
    from sparsesearch.runs.directory import check_vacant
    from sparsesearch.runs.progress import Reporter

    logging.disable_progress_bar()
    check_vacant(usable(out, "--out"))
    changes = recipe_changes(model, limit, calibration, selection, set_)
    first = load_config(recipe, changes)
    launch = prepare(first, reporter=Reporter())
    check_stages(launch, train)
    first_run = run_path(results, f"{recipe.stem if name is None else name}-1")
    reporter, reports, current = Reporter(), [], first.model.id
    # Of what was given, what training alone depends on; the rest is in each stage's run.
    retrained = {key: value for key, value in changes.items() if key.startswith(("training", "data.training"))}
    for stage in range(1, stages + 1):
        path = first_run.with_name(f"{first_run.name.removesuffix('1')}{stage}")
        own = changes_of_stage(launch, current, stage, stages)
        reporter.message(f"Stage {stage} of {stages}: {', '.join(own['limits'])}")
        found = searched_stage(prepare(load_config(recipe, changes | own)), path, reporter)
        one = recovered_stage(found, retrained, train, reporter)
        # Beside one another for other ways of training.
        place = path / f"model-{one.weights.parents[1].name}" if stage < stages else out
        report = exported(place) or export(found, one.after, place, "zeros", TRUSTED, trained=one.weights)
        reports.append(report | {"stage": stage, "before": one.candidate.quality, "after": one.quality})
        current = str(place.resolve())
    if json_:
        print_json(reports)
        return
    for report in reports:
        say(
            f"stage {report['stage']}: {first.objectives[0]} {report['before']:.4g} before training, "
            f"{report['after']:.4g} after; {report['nonzeros']:,} nonzeros: {report['out']}"
        )
