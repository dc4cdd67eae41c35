"""`sparsesearch latency`: what pieces of a network take on a device, or a run's finalists."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesearch.cli.options import Json, Trust, print_json, say, set_if_given, usable
from sparsesearch.errors import problem

if TYPE_CHECKING:
    from sparsesearch.engine.launch.access import Access


def latency(
    subject: Annotated[Path, typer.Argument(metavar="SPACE.yaml|RUN", help="A recipe, or a finished run.")],
    out: Annotated[Path, typer.Option(help="Of a recipe: the table to write.")] = Path("latency.json"),
    model: Annotated[str | None, typer.Option(help="Of a recipe: another one; of a run: where it lies by now.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any key.")] = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Measure the latency table of a recipe, for runs anywhere (latency.table); or a run's finalists, on this machine.

    What is measured (batch, tokens read and generated, data type, threads) is the recipe's `latency`.
    """
    from transformers.utils import logging

    from sparsesearch.engine.launch.access import Access
    from sparsesearch.runs.directory import RunDirectory
    from sparsesearch.runs.progress import Reporter

    logging.disable_progress_bar()
    if RunDirectory.is_there(subject):
        if set_:
            raise problem("SS101", "--set is for recipes; a run is measured as its recipe says.")
        _finalists(subject, Access(model=model, trusted=trust), device, json_)
        return

    from sparsesearch.config import load_config, parse_assignment
    from sparsesearch.engine.launch.latency_table import measure_now
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.report.texts import request_text

    changes: dict[str, Any] = set_if_given(model__id=model, latency__device=device)
    changes |= dict(parse_assignment(text) for text in set_ or []) | {"latency.table": None}
    config = load_config(subject, changes)
    # Limits and objectives do not matter here, and those on latency could not be checked yet.
    bare = config.model_copy(update={"limits": [], "objectives": [config.objectives[0], "params"]})
    if usable(out, "--out").is_dir():
        raise problem("SS500", f"--out {out} is a directory.", fix="Name a file.")
    launch = prepare(bare, searches=False, reporter=Reporter())
    table = measure_now(config, launch.source, launch.network, launch.space, launch.samples["calibration"], Reporter())
    table.write(out)
    if json_:
        print_json({"out": str(out), **table.to_json()})
        return
    say(f"{out}: {request_text(asdict(table.setting))}")
    share = table.smallest_ns / table.dense_ns
    say(f"Dense {table.dense_ns / 1e6:.3g} ms, smallest {table.smallest_ns / 1e6:.3g} ms ({share:.0%}).")
    say(f"Use: --set latency.table={out}")


def _finalists(run: Path, access: Access, device: str | None, json_: bool) -> None:
    from sparsesearch.export.measuring.finalists import measure_finalists
    from sparsesearch.media import Terminal
    from sparsesearch.report.pages.run_page import write_report
    from sparsesearch.report.terminal import latency_table
    from sparsesearch.runs.progress import Reporter
    from sparsesearch.runs.results import RunResults

    results = RunResults(run)
    results.require_front()
    found = measure_finalists(results, Reporter(), access, device)
    write_report(results)
    if json_:
        print_json(found)
    else:
        Terminal().print(latency_table(results, found))
