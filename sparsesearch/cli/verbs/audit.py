"""`sparsesearch audit`: agreement of proxies with measurements on candidates of one space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import (
    Assignments,
    CalibrationSource,
    Json,
    Limits,
    RecipeModel,
    SelectionSource,
    print_json,
    recipe_changes,
    run_path,
    split,
)


def audit(
    recipe: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="A recipe; its searcher is ignored.")],
    proxies: Annotated[
        str, typer.Option(help="Proxies: names separated by commas, or all; see sparsesearch list proxies.")
    ] = "all",
    samples: Annotated[int, typer.Option(min=4, max=100_000, help="Number of candidates, all of equal cost.")] = 60,
    tokens: Annotated[
        int, typer.Option(min=0, max=10**15, help="Selection tokens on which each is measured; 0 for all.")
    ] = 0,
    train: Annotated[
        int,
        typer.Option(
            min=0,
            max=10**15,
            help="Training tokens of each candidate, to compare with quality after training too; 0 for none.",
        ),
    ] = 0,
    model: RecipeModel = None,
    name: Annotated[str | None, typer.Option(help="Name of the audit (default: SPACE-audit).")] = None,
    results: Annotated[Path, typer.Option(help="Directory of all runs and audits.")] = Path("results"),
    limit: Limits = None,
    calibration: CalibrationSource = None,
    selection: SelectionSource = None,
    set_: Assignments = None,
    json_: Json = False,
) -> None:
    """Correlate proxies and controls with measured quality at equal cost; write a table, audit.html and a PNG.

    Candidates fill the limits; without limits, they lie in the middle of the range of the first cost. The same command
    continues after an interruption.
    """
    from sparsesearch import api
    from sparsesearch.config import load_config
    from sparsesearch.media import Terminal
    from sparsesearch.report.pages.audit_page import audit_json, audit_table

    config = load_config(recipe, recipe_changes(model, limit, calibration, selection, set_))
    path = run_path(results, f"{recipe.stem}-audit" if name is None else name)
    names = [] if proxies == "all" else split(proxies, "proxies")
    result = api.audit(config, path, names, samples=samples, tokens=tokens, train=train)
    if json_:
        print_json(audit_json(result))
        return
    console = Terminal()
    console.print(audit_table(result))
    console.print(f"Report: {path / 'audit.html'}", highlight=False, soft_wrap=True)
