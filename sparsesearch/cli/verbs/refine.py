"""`sparsesearch refine`: search again on a finer grid of levels around a run's front."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sparsesearch.cli.front_summary import print_outcome
from sparsesearch.cli.options import Assignments, Json, MovedModel, RunArgument, Trust, set_if_given


def refine(
    run: RunArgument,
    name: Annotated[str | None, typer.Option(help="Name of the new run (default: RUN-fine).")] = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=100, help="Number of rounds, each around the front of the one before.")
    ] = 1,
    evals: Annotated[int | None, typer.Option(help="Evaluation budget (default: RUN's).")] = None,
    tokens: Annotated[int | None, typer.Option(help="Token budget (default: RUN's).")] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="Limit such as 'params<=60%'; replaces RUN's limits; repeatable.")
    ] = None,
    set_: Assignments = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, and start no search.")
    ] = False,
    model: MovedModel = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Search again in a new run, with steps half as large around the front of RUN.

    Calibration statistics are reused if pruners.propagate is dense, and so are supernets.

    With --rounds the runs are RUN-fine, RUN-fine-2, ...; the same command continues after an interruption.
    """
    from sparsesearch.api import Run
    from sparsesearch.cli.plan import print_dry_run
    from sparsesearch.config import parse_assignment

    coarse = Run.open(run, model=model, trust_remote_code=trust)
    changes: dict[str, Any] = set_if_given(search__evals=evals, search__tokens=tokens, limits=limit or None)
    changes |= dict(parse_assignment(text) for text in set_ or [])
    path = coarse.refined_path(name)
    if dry_run:
        print_dry_run(coarse.refinement(changes), path, json_)
    else:
        print_outcome(coarse.refine(name, rounds, changes), json_)
