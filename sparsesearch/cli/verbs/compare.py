"""`sparsesearch compare`: searchers on one space, with equal token budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    whole,
)
from sparsesearch.errors import printable, problem


def compare(
    recipe: Annotated[
        Path, typer.Argument(metavar="SPACE.yaml", help="A recipe; its searcher and budget are ignored.")
    ],
    searchers: Annotated[
        str, typer.Option(help="Searchers: names, or LABEL=NAME, separated by commas; see sparsesearch list searchers.")
    ],
    tokens: Annotated[int, typer.Option(min=1, max=10**15, help="Token budget of each search.")],
    seeds: Annotated[str, typer.Option(help="Random seeds, separated by commas.")] = "0,1,2",
    sizes: Annotated[
        str,
        typer.Option(
            help="Shares of the first cost to compare at, such as 80%,60% (default: the limits, or 80%,60%,40%)."
        ),
    ] = "",
    model: RecipeModel = None,
    name: Annotated[str | None, typer.Option(help="Name of the comparison (default: the recipe's file name).")] = None,
    results: Annotated[Path, typer.Option(help="Directory of all runs and comparisons.")] = Path("results"),
    limit: Limits = None,
    calibration: CalibrationSource = None,
    selection: SelectionSource = None,
    set_: Assignments = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="LABEL.KEY=VALUE", help="Option of one searcher; repeatable.")
    ] = None,
    json_: Json = False,
) -> None:
    """Run searchers with equal token budgets and several seeds; write a table, compare.html and compare.png.

    Every searcher and seed is a separate run in RESULTS/NAME. The same command continues after an interruption.
    """
    from sparsesearch import api
    from sparsesearch.config import load_config
    from sparsesearch.media import Terminal
    from sparsesearch.report.pages.compare_page import comparison_json, comparison_table

    config = load_config(recipe, recipe_changes(model, limit, calibration, selection, set_))
    path = run_path(results, recipe.stem if name is None else name)
    names = split(searchers, "searchers")
    comparison = api.compare(
        config,
        path,
        names,
        tokens,
        seeds=_numbers(seeds),
        sizes=split(sizes, "sizes") if sizes else [],
        options=_options(option or [], {text.partition("=")[0] for text in names}),
    )
    if json_:
        print_json(comparison_json(comparison))
        return
    console = Terminal()
    console.print(comparison_table(comparison))
    console.print(f"Report: {path / 'compare.html'}", highlight=False, soft_wrap=True)


def _numbers(text: str) -> list[int]:
    """Return seeds from their text; raises InputError SS101 for anything else."""
    parts = split(text, "seeds")
    seeds = [seed for part in parts if (seed := whole(part)) is not None and seed < 2**32]
    if len(seeds) < len(parts):
        raise problem(
            "SS101",
            f"--seeds {printable(text, 80)!r}: seeds are integers from 0, below 2^32.",
            fix="Example: --seeds 0,1,2.",
        )
    return seeds


def _options(assignments: list[str], searchers: set[str]) -> dict[str, dict[str, Any]]:
    """Return options by searcher and key from `SEARCHER.KEY=VALUE`; raises InputError SS101 for other searchers."""
    from sparsesearch.config import parse_assignment

    options: dict[str, dict[str, Any]] = {}
    for text in assignments:
        key, value = parse_assignment(text)
        name, _, option = key.rpartition(".")
        if name not in searchers:
            raise problem(
                "SS101",
                f"--option {printable(text, 80)!r} names none of the searchers.",
                fix="Example: nsga2.tokens=1024.",
            )
        options.setdefault(name, {})[option] = value
    return options
