"""`sparsesearch audit`: which proxies rank candidates of one space as measurements do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, print_json, recipe_changes, run_path, split


def audit(
    recipe: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="A recipe; its searcher does not count.")],
    proxies: Annotated[str, typer.Option(help="Names with commas between, or all. See: list proxies.")] = "all",
    samples: Annotated[int, typer.Option(min=4, max=100_000, help="Candidates, all of equal cost.")] = 60,
    tokens: Annotated[
        int, typer.Option(min=0, max=10**15, help="Selection tokens on which each is measured; 0: all.")
    ] = 0,
    train: Annotated[
        int,
        typer.Option(
            min=0, max=10**15, help="Training tokens of each candidate, to compare with its quality after that too."
        ),
    ] = 0,
    model: Annotated[str | None, typer.Option(help="demo, a model directory, or a hub id.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the audit; SPACE-audit by default.")] = None,
    results: Annotated[Path, typer.Option(help="Where it is kept.")] = Path("results"),
    limit: Annotated[list[str] | None, typer.Option(help="As 'params<=60%'; replaces the recipe's limits.")] = None,
    calibration: Annotated[str | None, typer.Option(help="Text file or data set to calibrate on.")] = None,
    selection: Annotated[str | None, typer.Option(help="Text file or data set to select on.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any key.")] = None,
    json_: Json = False,
) -> None:
    """Rank correlations of proxies with measured quality at equal cost, beside controls; a table, audit.html and PNG.

    Candidates fill the limits; without any, they keep half of what can be removed. The same command goes on after an
    interruption.
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
