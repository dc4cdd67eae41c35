"""`sparsesearch compare`: searchers on one space, with equal token budgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesearch.cli.options import Json, print_json, recipe_changes, split, whole
from sparsesearch.cli.verbs.search import run_path
from sparsesearch.errors import printable, problem
from sparsesearch.files import write_text

if TYPE_CHECKING:
    from sparsesearch.report.comparison import Comparison


def compare(
    recipe: Annotated[
        Path, typer.Argument(metavar="SPACE.yaml", help="A recipe; its searcher and budget do not count.")
    ],
    searchers: Annotated[str, typer.Option(help="Names, or LABEL=NAME, with commas between. See: list searchers.")],
    tokens: Annotated[int, typer.Option(min=1, max=10**15, help="Selection tokens that each search may spend.")],
    seeds: Annotated[str, typer.Option(help="Seeds with commas between.")] = "0,1,2",
    sizes: Annotated[
        str, typer.Option(help="Shares of the first cost objective at which qualities are compared, as 80%,60%.")
    ] = "",
    model: Annotated[str | None, typer.Option(help="demo, a model directory, or a hub id.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the comparison; the recipe's file name by default.")] = None,
    results: Annotated[Path, typer.Option(help="Where it is kept.")] = Path("results"),
    limit: Annotated[list[str] | None, typer.Option(help="As 'params<=60%'; replaces the recipe's limits.")] = None,
    calibration: Annotated[str | None, typer.Option(help="Text file or data set to calibrate on.")] = None,
    selection: Annotated[str | None, typer.Option(help="Text file or data set to select on.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any key.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="LABEL.KEY=VALUE", help="An option of one searcher.")
    ] = None,
    json_: Json = False,
) -> None:
    """Run searchers with equal token budgets and several seeds; write a table, compare.html and compare.png.

    Every searcher and seed is a run of its own in RESULTS/NAME. The same command goes on after an interruption.
    """
    from sparsesearch.config import load_config
    from sparsesearch.engine.launch.prepare import check_disk, prepare
    from sparsesearch.engine.workflows import compare as comparing
    from sparsesearch.report.comparison import compare_results
    from sparsesearch.runs.progress import Reporter

    config = load_config(recipe, recipe_changes(model, limit, calibration, selection, set_))
    path = run_path(results, recipe.stem if name is None else name)
    everyone = comparing.contenders(path, split(searchers, "searchers"), _numbers(seeds))
    options = _options(option or [], {c.name for c in everyone})
    searches = {c: comparing.search_of(config.search, c, tokens, options.get(c.name, {})) for c in everyone}
    launch = prepare(config.model_copy(update={"search": searches[everyone[0]]}), reporter=Reporter())
    launches = {contender: launch.searching(search) for contender, search in searches.items()}
    spaces = comparing.sized(launch.space, config.objectives[1], split(sizes, "sizes") if sizes else [])
    for space in spaces.values():
        space.check()
    comparing.check_runs(launches, path)
    path.mkdir(parents=True, exist_ok=True)
    check_disk(launch, path)
    reporter = Reporter()
    found = comparing.run_all(launches, reporter)
    _show(compare_results(launches, found, spaces, tokens, path / "judged", reporter), path, json_)


def _show(numbers: Comparison, path: Path, json_: bool) -> None:
    """Write the page, the picture and the numbers, and print them."""
    from sparsesearch.media import Terminal
    from sparsesearch.report.pages.compare_page import comparison_json, comparison_table, write_page, write_picture

    write_page(numbers, path / "compare.html", path.name)
    write_picture(numbers, path / "compare.png")
    write_text(path / "compare.json", json.dumps(comparison_json(numbers), indent=1))
    if json_:
        print_json(comparison_json(numbers))
        return
    console = Terminal()
    console.print(comparison_table(numbers))
    console.print(f"Report: {path / 'compare.html'}", highlight=False, soft_wrap=True)


def _numbers(text: str) -> list[int]:
    parts = split(text, "seeds")
    seeds = [seed for part in parts if (seed := whole(part)) is not None and seed < 2**32]
    if len(seeds) < len(parts):
        raise problem(
            "SS101", f"--seeds {printable(text, 80)!r}: seeds are integers from 0, below 2^32.", fix="As --seeds 0,1,2."
        )
    return seeds


def _options(assignments: list[str], searchers: set[str]) -> dict[str, dict[str, Any]]:
    """`SEARCHER.KEY=VALUE` by searcher and key."""
    from sparsesearch.config import parse_assignment

    found: dict[str, dict[str, Any]] = {}
    for text in assignments:
        key, value = parse_assignment(text)
        name, _, option = key.rpartition(".")
        if name not in searchers:
            raise problem(
                "SS101", f"--option {printable(text, 80)!r} is for none of the searchers.", fix="As nsga2.tokens=1024."
            )
        found.setdefault(name, {})[option] = value
    return found
