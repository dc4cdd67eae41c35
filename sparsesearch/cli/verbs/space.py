"""`sparsesearch space`: write, check, show and describe recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, Trust, print_json, say, usable
from sparsesearch.errors import problem

app = typer.Typer(help="Write, check, show and describe recipes.", no_args_is_help=True, rich_markup_mode=None)

_UNITS = {
    "sparsity": "  - {kind: sparsity, levels: 16, max_sparsity: 95%}",
    "ffn_width": "  - {kind: ffn_width, levels: 8, min_kept: 25%, align: 8}",
    "kv_groups": "  - {kind: kv_groups}",
    "q_heads": "  - {kind: q_heads}",
    "experts": "  - {kind: experts, levels: 12, min_kept: 25%}",
    "expert_width": "  - {kind: expert_width, levels: 4, min_kept: 50%}",
    "channels": "  - {kind: channels, levels: 12, min_kept: 20%}",
    "kernel": "  - {kind: kernel}",
    "drop_attention": "  - {kind: drop_attention, protect: [0, -1]}",
    "drop_ffn": "  - {kind: drop_ffn, protect: [0, -1]}",
}

_RECIPE = """version: 1
model: {{id: {model}}}
units:
{units}
limits: []  # as ["params<=60%", "nonzeros<=30%"]
objectives: [kl, {cost}]
data:  # sources of Python's standard library, for the demo model alone; give data of your own for other models
  calibration: {{source: "stdlib:calibration", sequences: 128, length: 256}}
  selection: {{source: "stdlib:selection", sequences: 64, length: 256}}
search: {{searcher: auto, evals: 600, seed: 0}}
executor: {{kind: ray, workers: 2}}
"""


@app.command("init")
def init(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    model: Annotated[str, typer.Option(help="Model: demo, a model directory, or a hub id.")] = "demo",
    kinds: Annotated[
        str, typer.Option(help=f"Unit kinds, separated by commas: {', '.join(_UNITS)}.")
    ] = "ffn_width,kv_groups",
) -> None:
    """Write a recipe to start from."""
    from sparsesearch.errors import name_problem, printable

    names = kinds.split(",")
    for name in names:
        if name not in _UNITS:
            raise problem("SS102", f"kind {printable(name, 80)!r} is unknown.", got=name, allowed=_UNITS)
    if usable(out, "--out").exists():
        raise problem("SS500", f"{out} exists.", fix="Choose another --out.")
    if fault := name_problem(model):
        raise problem("SS201", f"--model {printable(model, 80)!r}: {fault}.", fix="Give a model directory or id.")
    if model.startswith(("/", ".", "~")) and not Path(model).expanduser().is_dir():
        raise problem("SS201", f"--model {model}: no such directory.", fix="Give a Hugging Face model directory or id.")
    cost = "nonzeros" if names == ["sparsity"] else "params"
    try:
        out.write_text(_RECIPE.format(model=model, units="\n".join(_UNITS[n] for n in names), cost=cost))
    except FileNotFoundError as error:
        raise problem("SS126", f"cannot write {out}: {error.strerror}.", fix="Choose another --out.") from None
    say(out)
    say(f"Check it: sparsesearch space check {out}")


@app.command("check")
def check(
    recipe: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="A recipe.")],
    model: Annotated[str | None, typer.Option(help="Model to check it with (default: the recipe's).")] = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Check a recipe with its model and data, as a search would before it starts.

    If latency or memory is an objective or limited, and the recipe has no table, the table is measured on this machine.
    """
    from sparsesearch.api import plan
    from sparsesearch.cli.plan import print_plan
    from sparsesearch.config import load_config
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.plugins import check_trust
    from sparsesearch.runs.progress import Reporter

    config = load_config(recipe, {} if model is None else {"model.id": model})
    # The user typed the factory of --model, so it needs no further permission.
    check_trust([name for name in config.code if name != model], trust, "the recipe")
    launch = prepare(config, reporter=Reporter())
    if json_:
        print_json(plan(launch))
    else:
        print_plan(launch)


@app.command("schema")
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables of all keys in Markdown instead.")] = False,
) -> None:
    """Print the JSON schema of recipes, with which editors complete and check them."""
    from sparsesearch.plugins import load_plugins
    from sparsesearch.searchers.recipe_reference import recipe_schema, recipe_tables

    if markdown:
        print(recipe_tables(), end="")
    else:
        load_plugins()
        print_json(recipe_schema())


@app.command("show")
def show(
    recipe: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="A recipe.")],
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """List every unit of a recipe with its levels.

    It makes the same checks as `space check`, which may measure a latency table.
    """
    from rich.table import Table

    from sparsesearch.config import load_config
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.media import Terminal
    from sparsesearch.plugins import check_trust
    from sparsesearch.runs.progress import Reporter

    config = load_config(recipe)
    check_trust(config.code, trust, "the recipe")
    space = prepare(config, reporter=Reporter()).space
    if json_:
        print_json([{"name": u.name, "kind": u.kind, "block": u.block, "levels": list(u.levels)} for u in space.units])
        return
    table = Table("unit", "total", "levels (elements kept)")
    for unit in space.units:
        table.add_row(unit.name.removeprefix("model."), f"{unit.total:,}", " ".join(map(str, unit.levels)))
    Terminal().print(table)
