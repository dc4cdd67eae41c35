"""`sparsesearch search`: run a search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.cli.front_summary import print_outcome
from sparsesearch.cli.options import (
    Assignments,
    CalibrationSource,
    Json,
    Limits,
    RecipeModel,
    SelectionSource,
    Trust,
    run_path,
    set_if_given,
)


def search(
    recipe: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="A recipe, such as those in search_spaces/.")],
    model: RecipeModel = None,
    name: Annotated[str | None, typer.Option(help="Name of the run (default: the recipe's file name).")] = None,
    results: Annotated[Path, typer.Option(help="Directory of all runs.")] = Path("results"),
    searcher: Annotated[
        str | None,
        typer.Option(help="Name of the searcher, of those of sparsesearch list searchers (default: the recipe's)."),
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option(
            help="Name of the pruner of sparsity units, of those of sparsesearch list pruners (default: the recipe's)."
        ),
    ] = None,
    evals: Annotated[
        int | None,
        typer.Option(help="Evaluation budget, final re-measurements not counted (default: the recipe's)."),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Token budget, final re-measurements not counted (default: the recipe's).")
    ] = None,
    hours: Annotated[float | None, typer.Option(help="Time budget in hours (default: the recipe's).")] = None,
    limit: Limits = None,
    executor: Annotated[str | None, typer.Option(help="Executor: ray or local (default: the recipe's).")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of Ray workers (default: the recipe's).")] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster to join (default: the recipe's; if it has none, one is started on this "
            "machine)."
        ),
    ] = None,
    calibration: CalibrationSource = None,
    selection: SelectionSource = None,
    seed: Annotated[int | None, typer.Option(help="Random seed (default: the recipe's).")] = None,
    set_: Assignments = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, and start no search.")
    ] = False,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Search a space and write the front of pruned models to a run directory."""
    from sparsesearch.config import load_config, parse_assignment

    changes: dict[str, Any] = set_if_given(
        model__id=model,
        search__searcher=searcher,
        pruners__sparsity=pruner,
        search__evals=evals,
        search__tokens=tokens,
        search__hours=hours,
        limits=limit or None,
        executor__kind=executor,
        executor__workers=workers,
        executor__address=address,
        data__calibration__source=calibration,
        data__selection__source=selection,
        search__seed=seed,
    )
    if searcher is not None and load_config(recipe).search.searcher != searcher:
        # The recipe's options are for its own searcher and do not apply to another one.
        changes["search.options"] = {}
    changes |= dict(parse_assignment(text) for text in set_ or [])
    config = load_config(recipe, changes)
    path = run_path(results, recipe.stem if name is None else name)

    if dry_run:
        from sparsesearch.plugins import check_trust

        # The user typed the factory of --model, so it needs no further permission.
        check_trust([name for name in config.code if name != changes.get("model.id")], trust, "the recipe")
    from sparsesearch.api.searches import run_search
    from sparsesearch.cli.plan import print_dry_run
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.runs.progress import Reporter

    reporter = Reporter()
    launch = prepare(config, reporter=reporter)
    if dry_run:
        print_dry_run(launch, path, json_)
    else:
        print_outcome(run_search(launch, path, reporter), json_)
