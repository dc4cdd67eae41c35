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
    form: Annotated[
        str, typer.Option(help="Form of the model: auto, or a name; see sparsesearch list forms.")
    ] = "auto",
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Repository of the Hugging Face hub to upload to (default: no upload)."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make that repository private.")] = False,
    model: MovedModel = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Write a candidate as a model directory, load it again and compare logits before it appears."""
    from sparsesearch.api import Run

    opened = Run.open(run, model=model, trust_remote_code=trust)
    chosen = choose(opened.results, candidate, pick)
    report = opened.export(chosen, out, form, push_to_hub, private)
    if json_:
        print_json(report)
        return
    counts = ", ".join(f"{report[name]:,} {name}" for name in ("params", "nonzeros", "bytes"))
    say(f"{report['out']}: form {report['form']}, {counts}")
    say(f"Form {report['form']}: {report['why']}.")
    say(f"Reloaded by {' and '.join(report['verified'])}: largest logit difference {report['max_abs_logit_diff']:.2g}")
    say(f"Load: {report['load']}")
    for note in report["notes"]:
        say(note)
    if "hub" in report:
        say(f"Uploaded: {report['hub']}")
