"""`sparsesearch recover`: train candidates, and write them as models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.cli.options import (
    Json,
    MovedModel,
    Pick,
    RunArgument,
    Trust,
    choose,
    print_json,
    say,
    set_if_given,
    usable,
)
from sparsesearch.errors import problem


def recover(
    run: RunArgument,
    candidate: Annotated[str | None, typer.Argument(metavar="[ID]", help="Start of a candidate's id.")] = None,
    tokens: Annotated[int, typer.Option(min=1, max=10**15, help="Training tokens (or images).")] = 1_000_000,
    out: Annotated[Path, typer.Option(help="Directory to write; must not exist or be empty.")] = Path("recovered"),
    pick: Pick = None,
    front: Annotated[
        bool, typer.Option("--front", help="Train all candidates of the front, each written to OUT/ID.")
    ] = False,
    method: Annotated[
        str | None,
        typer.Option(help="Training method: full, perp, lora, masked_lora or compensate (default: the run's)."),
    ] = None,
    training: Annotated[str | None, typer.Option(help="Training data (default: the run's).")] = None,
    soup: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of copies with different seeds, averaged greedily.")
    ] = 1,
    form: Annotated[
        str, typer.Option(help="Form of the model: auto, or a name; see sparsesearch list forms.")
    ] = "auto",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Set a key such as training.batch; repeatable."),
    ] = None,
    model: MovedModel = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Train a candidate while its pruned weights stay zero, write it as a model directory and verify it.

    Each starts from the run's weights, or from those of its last rung of training, and is trained towards the dense
    network. The same command reads finished trainings.
    """
    from sparsesearch.api import Run
    from sparsesearch.config import parse_assignment

    opened = Run.open(run, model=model, trust_remote_code=trust)
    results = opened.results
    if front and (candidate or pick):
        raise problem("SS501", "--front and a candidate were given.", fix="Give one of them.")
    results.require_front()
    chosen = results.front if front else choose(results, candidate, pick)
    changes: dict[str, Any] = set_if_given(training__method=method)
    changes |= dict(parse_assignment(text) for text in set_ or [])
    reports = opened.recover(
        chosen, usable(out, "--out"), tokens, copies=soup, form=form, data=training, changes=changes
    )
    if json_:
        print_json(reports if front else reports[0])
    else:
        _show(reports, results.quality)


def _show(reports: list[dict[str, Any]], quality: str) -> None:
    for report in reports:
        say(
            f"{report['out']}: {quality} {report['before']:.4g} before training, {report['after']:.4g} after "
            f"{report['recovery_tokens']:,} tokens; form {report['form']}, {report['nonzeros']:,} nonzeros."
        )
        say(f"Load: {report['load']}")
