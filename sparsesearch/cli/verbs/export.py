"""`sparsesearch export`: write a candidate as a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, MovedModel, Pick, RunArgument, Trust, choose, print_json, say


def export(
    run: RunArgument,
    candidate: Annotated[str | None, typer.Argument(metavar="[ID]", help="Start of a candidate's id.")] = None,
    out: Annotated[Path, typer.Option(help="Directory to write; must not exist or be empty.")] = Path("exported"),
    pick: Pick = None,
    form: Annotated[str, typer.Option(help="auto, or one of: sparsesearch list forms.")] = "auto",
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Upload it to this repository of the Hugging Face hub.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make that repository a private one.")] = False,
    model: MovedModel = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Write a candidate as a model directory, reload it in a fresh process and compare logits."""
    from sparsesearch.api import Run

    opened = Run.open(run, model=model, trust_remote_code=trust)
    chosen = choose(opened.results, candidate, pick)
    done = opened.export(chosen, out, form, push_to_hub, private)
    if json_:
        print_json(done)
        return
    counts = ", ".join(f"{done[name]:,} {name}" for name in ("params", "nonzeros", "bytes"))
    say(f"{done['out']}: form {done['form']}, {counts}")
    say(f"Form {done['form']}: {done['why']}.")
    say(f"Reloaded by {' and '.join(done['verified'])}: largest logit difference {done['max_abs_logit_diff']:.2g}")
    say(f"Load: {done['load']}")
    for note in done["notes"]:
        say(note)
    if "hub" in done:
        say(f"Uploaded: {done['hub']}")
