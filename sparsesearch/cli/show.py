"""`sparsesearch show`: one candidate, unit by unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, Pick, RunArgument, choose, print_json


def show(
    run: RunArgument,
    candidate: Annotated[str | None, typer.Argument(metavar="[ID]", help="Start of a candidate's id.")] = None,
    pick: Pick = None,
    json_: Json = False,
) -> None:
    """Show what a candidate keeps of every unit, and what it costs."""
    from rich.console import Console

    from sparsesearch.engine.results import RunResults
    from sparsesearch.report.terminal import short, unit_bars

    results = RunResults(Path(run))
    chosen = choose(results, candidate, pick)
    if json_:
        print_json(results.candidate_json(chosen) | {"kept": results.space.describe(chosen.genome)})
        return
    console = Console()
    console.print(unit_bars(results.space, chosen))
    dense = results.space.dense_costs
    costs = ", ".join(f"{n} {short(v)} ({v / max(dense[n], 1):.0%})" for n, v in chosen.costs.items())
    console.print(f"{results.quality} {chosen.quality:.4f} on {chosen.sequences} sequences; {costs}", highlight=False)
