"""`sparsesearch refine`: search again on a finer grid of levels around a run's front."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.cli.options import Json, RunArgument, set_if_given


def refine(
    run: RunArgument,
    name: Annotated[str | None, typer.Option(help="Of the new run; RUN-fine by default.")] = None,
    evals: Annotated[int | None, typer.Option(help="Evaluations of the search; as RUN's if not given.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens of the search; as RUN's if not given.")] = None,
    limit: Annotated[list[str] | None, typer.Option(help="As 'params<=60%'; replaces RUN's limits.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any key.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all, print the plan, start nothing.")] = False,
    json_: Json = False,
) -> None:
    """Search again, beside RUN, with steps half as large around its front; nothing is calibrated again."""
    from sparsesearch.cli.search import launch_or_plan, run_name
    from sparsesearch.config import load_config, parse_assignment
    from sparsesearch.engine.directory import RunDirectory
    from sparsesearch.engine.launch import prepare

    coarse = RunDirectory.open(Path(run))
    changes: dict[str, Any] = set_if_given(search__evals=evals, search__tokens=tokens, limits=limit or None)
    changes |= {"refines": str(coarse.path)} | dict(parse_assignment(text) for text in set_ or [])
    path = coarse.path.parent / run_name(f"{coarse.path.name}-fine" if name is None else name)
    launch_or_plan(prepare(load_config(coarse.config, changes), saved=coarse), path, dry_run, json_)
