"""`sparsesearch front`: the front of a run as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, RunArgument, print_json, say
from sparsesearch.errors import problem


def front(
    run: RunArgument,
    sort: Annotated[str | None, typer.Option(help="Objective or cost to sort by (default: the first cost).")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Condition such as 'params<=1.2M' or 'nonzeros<=40%'; repeatable.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show the candidates that no other candidate dominates, and the dense and uniform baselines."""
    from sparsesearch.media import Terminal
    from sparsesearch.report.terminal import front_table
    from sparsesearch.runs.results import RunResults
    from sparsesearch.space import Limit

    results = RunResults(Path(run))
    results.require_front()
    space = results.space.with_limits(Limit.parse(text) for text in where or [])
    candidates = [e for e in results.front if space.feasible(e.genome)]
    if sort is not None:
        names = [results.quality, *results.space.dense_costs]
        if sort not in names:
            raise problem("SS102", f"--sort {sort!r} is no objective or cost.", got=sort, allowed=names)
        candidates.sort(key=lambda e: results.values(e)[sort])
    if json_:
        by_id = {e.genome.id: results.candidate_json(e) for e in candidates}
        print_json(results.front_json() | {"candidates": list(by_id.values())})
        return
    if where and not candidates:
        smallest = ", ".join(f"{b.cost} {results.smallest(b.cost):,}" for b in space.bounds)
        say(f"No candidate of the front is within {', '.join(where)}; its smallest have {smallest}.", err=True)
    Terminal().print(front_table(results, candidates, f"Front of {results.run.path.name}", space))
