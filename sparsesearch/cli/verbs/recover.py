"""`sparsesearch recover`: train what was found, and write it as a model."""

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
    tokens: Annotated[
        int, typer.Option(min=1, max=10**15, help="Training tokens (images where the data are images).")
    ] = 1_000_000,
    out: Annotated[Path, typer.Option(help="Directory to write; must not exist or be empty.")] = Path("recovered"),
    pick: Pick = None,
    front: Annotated[bool, typer.Option("--front", help="All candidates of the front, each in OUT/ID.")] = False,
    method: Annotated[str | None, typer.Option(help="full, perp, lora, masked_lora or compensate.")] = None,
    training: Annotated[str | None, typer.Option(help="Data to train on; the run's training data by default.")] = None,
    soup: Annotated[int, typer.Option(min=1, max=1000, help="Copies with seeds of their own, averaged greedily.")] = 1,
    form: Annotated[str, typer.Option(help="auto, or one of: sparsesearch list forms.")] = "auto",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="As training.batch.")
    ] = None,
    model: MovedModel = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Train a candidate while its pruned weights stay zero, write it as a model directory and verify it.

    Each is trained from the run's weights, or where rungs of training left it, towards the dense network. The same
    command reads what was trained already.
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
    for done in reports:
        say(
            f"{done['out']}: {quality} {done['before']:.4g} before training, {done['after']:.4g} after "
            f"{done['recovery_tokens']:,} tokens; form {done['form']}, {done['nonzeros']:,} nonzeros."
        )
        say(f"Load: {done['load']}")
