"""`sparsesearch resume`: continue a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.cli.front_summary import print_outcome
from sparsesearch.cli.options import Json, MovedModel, RunArgument, Trust, set_if_given, whole
from sparsesearch.errors import problem


def resume(
    run: RunArgument,
    evals: Annotated[
        str | None, typer.Option(help="Evaluation budget; +N adds N to the run's evaluations (default: the run's).")
    ] = None,
    executor: Annotated[str | None, typer.Option(help="Executor: ray or local (default: the run's).")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of Ray workers (default: the run's).")] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster to join (default: the run's).")] = None,
    model: MovedModel = None,
    trust: Trust = False,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe from which, with the archive, damaged or lost files of the run are written anew."),
    ] = None,
    json_: Json = False,
) -> None:
    """Continue an interrupted run to the result it would have had, or extend a finished one."""
    from sparsesearch.api import Run
    from sparsesearch.api.searches import repair_run
    from sparsesearch.config import load_config

    path = Path(run)
    changes: dict[str, Any] = set_if_given(
        executor__kind=executor,
        executor__workers=workers,
        executor__address=address,
    )
    if recipe is not None:
        moved = set_if_given(model__id=None if model is None else str(Path(model).expanduser().resolve()))
        print_outcome(repair_run(path, load_config(recipe, changes | moved)), json_)
        return
    changes |= _evals(path, evals)
    print_outcome(Run.open(path, model=model, trust_remote_code=trust).resume(changes=changes), json_)


def _evals(path: Path, text: str | None) -> dict[str, Any]:
    """Return changes of the budget for `--evals N` or `--evals +N`, which replaces every other budget.

    Raises InputError SS101 for other texts, or if the run has so many evaluations already.
    """
    if text is None:
        return {}
    from sparsesearch.errors import printable
    from sparsesearch.runs.directory import RunDirectory

    number = whole(text.removeprefix("+"))
    if number is None:
        raise problem("SS101", f"--evals {printable(text, 80)!r} is not a number or +number, of 15 digits at most.")
    run = RunDirectory.open(path)
    previous: int | None = run.read(run.info).get("search_evaluations")
    if text.startswith("+") and previous is None:
        raise problem(
            "SS101", f"{path} has never finished; '+' has no evaluations to add to.", fix="Resume it without --evals."
        )
    total = number + (previous or 0 if text.startswith("+") else 0)
    if previous is not None and total <= previous:
        raise problem(
            "SS101", f"--evals {text}: {path} has {previous} evaluations already.", fix="Use --evals +N for N more."
        )
    return {"search.evals": total, "search.tokens": None, "search.hours": None}
