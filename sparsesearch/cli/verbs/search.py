"""`sparsesearch search`: launch a search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesearch.cli.options import Json, Trust, print_json, set_if_given, usable
from sparsesearch.errors import name_problem, printable, problem

if TYPE_CHECKING:
    from sparsesearch.engine.launch.launch import Launch

Text = Annotated[str | None, typer.Option(metavar="TEXT")]


def search(
    recipe: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="A recipe, as those in search_spaces/.")],
    model: Annotated[str | None, typer.Option(help="demo, a model directory, or a hub id.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the run; the recipe's file name by default.")] = None,
    results: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("results"),
    searcher: Annotated[str | None, typer.Option(help="See: sparsesearch list searchers.")] = None,
    pruner: Annotated[str | None, typer.Option(help="Of sparsity units. See: sparsesearch list pruners.")] = None,
    evals: Annotated[int | None, typer.Option(help="Evaluations of the search; final ones come on top.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens of the search; final ones come on top.")] = None,
    hours: Annotated[float | None, typer.Option(help="Hours at most.")] = None,
    limit: Annotated[list[str] | None, typer.Option(help="As 'params<=60%'; replaces the recipe's limits.")] = None,
    executor: Annotated[str | None, typer.Option(help="ray or local.")] = None,
    workers: Annotated[int | None, typer.Option(help="Ray workers.")] = None,
    address: Annotated[str | None, typer.Option(help="Join the Ray cluster there.")] = None,
    calibration: Annotated[str | None, typer.Option(help="Text file or data set to calibrate on.")] = None,
    selection: Annotated[str | None, typer.Option(help="Text file or data set to select on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any key.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all, print the plan, start nothing.")] = False,
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
        # Options are the searcher's own: those that the recipe gives to another one do not apply.
        changes["search.options"] = {}
    changes |= dict(parse_assignment(text) for text in set_ or [])
    config = load_config(recipe, changes)
    path = run_path(results, recipe.stem if name is None else name)

    if dry_run:
        from sparsesearch.plugins import check_trust

        # A factory that was typed here is no recipe's.
        check_trust([name for name in config.code if name != changes.get("model.id")], trust, "the recipe")
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.runs.progress import Reporter

    launch_or_plan(prepare(config, reporter=Reporter()), path, dry_run, json_)


def launch_or_plan(launch: Launch, path: Path, dry_run: bool, json_: bool) -> None:
    """Run a search in `path` and show what it found; with `dry_run` only check that it could, and show the plan."""
    if dry_run:
        from sparsesearch.cli.plan import plan_json, print_plan
        from sparsesearch.engine.launch.disk import check_disk
        from sparsesearch.engine.workers.cluster import check_machine
        from sparsesearch.runs.directory import RunDirectory

        RunDirectory.check_new(path)
        check_disk(launch, path.parent)
        check_machine(launch.config.executor)
        if json_:
            print_json(plan_json(launch))
        else:
            print_plan(launch, path)
        return

    from sparsesearch.cli.outcome import show_outcome
    from sparsesearch.engine import controller
    from sparsesearch.engine.workers.cluster import idle_gpu
    from sparsesearch.runs.progress import Reporter

    reporter = Reporter()
    if note := idle_gpu(launch.config.executor):
        reporter.message(note)
    show_outcome(controller.start(launch, path, reporter), json_)


def run_path(results: Path, name: str) -> Path:
    """The directory of a run in `--results`; raises InputError SS126 for what is no name for one."""
    if name_problem(name) or name != Path(name).name or name.startswith("."):
        raise problem(
            "SS126", f"--name {printable(name, 80)!r} is no name for a run.", fix="Use letters, digits, - and _."
        )
    return usable(results, "--results").resolve() / name
