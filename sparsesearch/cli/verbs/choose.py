"""`sparsesearch choose`: choose calibration or training samples from a larger pool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.cli.options import Assignments, Json, Pick, RecipeModel, print_json, say, set_if_given, usable


def choose_samples(
    recipe: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="A recipe, for its model and data.")],
    by: Annotated[str, typer.Option(help="Score: random, perplexity, el2n, grand or capability.")] = "el2n",
    role: Annotated[str, typer.Option(help="Data of the recipe: calibration or training.")] = "calibration",
    pool: Annotated[int, typer.Option(min=1, max=10**9, help="Number of samples to choose from.")] = 1024,
    take: Annotated[
        str, typer.Option(help="Samples to take: hardest, middle or easiest; capability takes a share of each group.")
    ] = ("middle"),
    out: Annotated[Path, typer.Option(help="Directory to write; must not exist or be empty.")] = Path("chosen"),
    run: Annotated[Path | None, typer.Option(help="For capability: the run of the pruned candidate.")] = None,
    pick: Pick = None,
    model: RecipeModel = None,
    source: Annotated[str | None, typer.Option(help="Data to choose from (default: the recipe's).")] = None,
    set_: Assignments = None,
    json_: Json = False,
) -> None:
    """Score samples with the dense network and keep as many as the recipe uses.

    Use the output directory as `source`: --set data.calibration.source=chosen, or recover --training chosen.
    """
    from sparsesearch import api
    from sparsesearch.config import load_config, parse_assignment

    changes: dict[str, Any] = set_if_given(model__id=model)
    changes |= {f"data.{role}.source": source} if source is not None else {}
    config = load_config(recipe, changes | dict(parse_assignment(text) for text in set_ or []))
    result = api.choose_samples(
        config, usable(out, "--out"), by=by, role=role, pool=pool, take=take, run=run, pick=pick
    )
    if json_:
        print_json(result)
        return
    say(
        f"{result['out']}: {result['chosen']} of {result['pool']} samples by {by}, "
        f"mean score {result['mean_chosen']:.4g} (pool {result['mean_pool']:.4g})."
    )
    keys = {"source": json.dumps(result["out"])[1:-1], "sequences": result["chosen"], "length": result["length"]}
    say(f"Use: {' '.join(f'--set data.{role}.{key}={value}' for key, value in keys.items())}")
