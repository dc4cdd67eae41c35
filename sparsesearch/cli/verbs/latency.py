"""`sparsesearch latency`: measure the latency table of a recipe, or the latencies of a run's finalists."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.cli.options import Json, Trust, print_json, say, set_if_given, usable
from sparsesearch.errors import problem


def latency(
    subject: Annotated[Path, typer.Argument(metavar="SPACE.yaml|RUN", help="A recipe, or a finished run.")],
    out: Annotated[Path, typer.Option(help="For a recipe: file of the table to write.")] = Path("latency.json"),
    model: Annotated[
        str | None, typer.Option(help="Model: for a recipe, another one; for a run, its directory if it was moved.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device: cpu, cuda or cuda:N (default: the recipe's).")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Set any key of a recipe; repeatable.")
    ] = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Measure the latency table of a recipe, for runs anywhere (latency.table); or a run's finalists, on this machine.

    The request (batch, tokens read and generated, data type, threads) is the recipe's `latency`.
    """
    from sparsesearch.runs.directory import RunDirectory

    if RunDirectory.is_there(subject):
        if set_:
            raise problem("SS101", "--set is for recipes; a run is measured with its own recipe.")
        _print_finalists(subject, model, trust, device, json_)
        return

    from sparsesearch.api import measure_latency
    from sparsesearch.config import load_config, parse_assignment
    from sparsesearch.report.texts import request_text

    changes: dict[str, Any] = set_if_given(model__id=model, latency__device=device)
    changes |= dict(parse_assignment(text) for text in set_ or []) | {"latency.table": None}
    config = load_config(subject, changes)
    if usable(out, "--out").is_dir():
        raise problem("SS500", f"--out {out} is a directory.", fix="Name a file.")
    table = measure_latency(config, out)
    if json_:
        print_json({"out": str(out), **table.to_json()})
        return
    say(f"{out}: {request_text(asdict(table.setting))}")
    share = table.smallest_ns / table.dense_ns
    say(f"Dense {table.dense_ns / 1e6:.3g} ms, smallest {table.smallest_ns / 1e6:.3g} ms ({share:.0%}).")
    say(f"Use: --set latency.table={out}")


def _print_finalists(path: Path, model: str | None, trust: bool, device: str | None, json_: bool) -> None:
    from sparsesearch.api import Run
    from sparsesearch.media import Terminal
    from sparsesearch.report.terminal import latency_table

    run = Run.open(path, model=model, trust_remote_code=trust)
    measured = run.measure_latency(device)
    if json_:
        print_json(measured)
    else:
        Terminal().print(latency_table(run.results, measured))
