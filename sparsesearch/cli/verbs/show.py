"""`sparsesearch show`: one candidate, unit by unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, Pick, RunArgument, choose, print_json

# Largest number of units that are shown one by one; more are shown by block.
MAX_LISTED_UNITS = 24


def show(
    run: RunArgument,
    candidate: Annotated[str | None, typer.Argument(metavar="[ID]", help="Start of a candidate's id.")] = None,
    pick: Pick = None,
    units: Annotated[bool, typer.Option("--units", help="Show a line for every unit, with counts.")] = False,
    json_: Json = False,
) -> None:
    """Show the kept share of every unit of a candidate, and its costs; with many units, one line for each block."""
    from sparsesearch.media import Terminal
    from sparsesearch.report.terminal import block_bars, unit_bars
    from sparsesearch.report.texts import cost_text
    from sparsesearch.runs.results import RunResults

    results = RunResults(Path(run))
    chosen = choose(results, candidate, pick)
    if json_:
        print_json(results.candidate_json(chosen) | {"kept": results.space.describe(chosen.genome)})
        return
    console = Terminal()
    listed = units or len(results.space.units) <= MAX_LISTED_UNITS
    blocks = None if listed else block_bars(results.space, chosen, console.width)
    console.print(blocks or unit_bars(results.space, chosen))
    dense = results.space.dense_costs
    costs = ", ".join(f"{n} {cost_text(n, v)} ({v / max(dense[n], 1):.0%})" for n, v in chosen.costs.items())
    console.print(f"{results.quality} {chosen.quality:.4f} on {chosen.sequences} sequences; {costs}", highlight=False)
