"""`sparsesearch choose`: the samples of a larger pool that are worth calibrating or training on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesearch.cli.options import Json, Pick, print_json, say, set_if_given, usable
from sparsesearch.errors import problem

if TYPE_CHECKING:
    from sparsesearch.config import RunConfig


def choose_samples(
    recipe: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="Its model and data are used.")],
    by: Annotated[str, typer.Option(help="random, perplexity, el2n, grand or capability.")] = "el2n",
    role: Annotated[str, typer.Option(help="calibration or training: which data of the recipe.")] = "calibration",
    pool: Annotated[int, typer.Option(min=1, max=10**9, help="Samples to choose from.")] = 1024,
    take: Annotated[str, typer.Option(help="hardest, middle or easiest; capability: a share for each group.")] = (
        "middle"
    ),
    out: Annotated[Path, typer.Option(help="Directory to write; must not exist or be empty.")] = Path("chosen"),
    run: Annotated[Path | None, typer.Option(help="capability: the run of the candidate that has to recover.")] = None,
    pick: Pick = None,
    model: Annotated[str | None, typer.Option(help="demo, a model directory, or a hub id.")] = None,
    source: Annotated[str | None, typer.Option(help="Data to choose from, in place of the recipe's.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any key.")] = None,
    json_: Json = False,
) -> None:
    """Score samples with the dense network and keep as many as the recipe wants.

    What is written serves as `source`: --set data.calibration.source=chosen, or recover --training chosen.
    """
    from transformers.utils import logging

    from sparsesearch.config import load_config, parse_assignment
    from sparsesearch.engine.workflows.choose import choose

    logging.disable_progress_bar()
    usable(out, "--out")
    changes: dict[str, Any] = set_if_given(model__id=model)
    changes |= {f"data.{role}.source": source} if source is not None else {}
    config = load_config(recipe, changes | dict(parse_assignment(text) for text in set_ or []))
    told = choose(config, role, by, pool, take, out, None if run is None else partial(_candidate, run, pick, config))
    if json_:
        print_json(told)
        return
    say(
        f"{told['out']}: {told['chosen']} of {told['pool']} samples by {by}, mean score {told['mean_chosen']:.4g} "
        f"(pool {told['mean_pool']:.4g})."
    )
    own = {"source": json.dumps(told["out"])[1:-1], "sequences": told["chosen"], "length": told["length"]}
    say(f"Use: {' '.join(f'--set data.{role}.{key}={value}' for key, value in own.items())}")


def _candidate(run: Path, pick: str | None, config: RunConfig, weights: str) -> Any:
    """A candidate of a run, as it was judged.

    Raises InputError SS602 where the run is of another model than the recipe, SS129 where it names other code.
    """
    from sparsesearch.engine.launch.access import TRUSTED, check_same_code
    from sparsesearch.engine.launch.reopen import open_run
    from sparsesearch.runs.results import RunResults

    results = RunResults(run)
    results.require_front()
    if results.info["fingerprint"]["weights"] != weights:
        raise problem("SS602", f"--run {run} is of another model than the recipe.", fix="Give a run of the same one.")
    check_same_code(run, config)
    opened, genome = open_run(results, TRUSTED), results.pick(pick or "knee").genome
    model = opened.supernet.materialise(genome).float()
    opened.norms.correct(model, genome)
    return model.eval()
