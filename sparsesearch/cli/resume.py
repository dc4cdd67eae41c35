"""`sparsesearch resume`: go on with a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.cli.options import Json, RunArgument, print_json, set_if_given


def resume(
    run: RunArgument,
    evals: Annotated[str | None, typer.Option(help="Evaluations at most; +N adds to what the run had.")] = None,
    executor: Annotated[str | None, typer.Option(help="ray or local.")] = None,
    workers: Annotated[int | None, typer.Option(help="Ray workers.")] = None,
    address: Annotated[str | None, typer.Option(help="Join the Ray cluster there.")] = None,
    json_: Json = False,
) -> None:
    """Continue an interrupted run to the result it would have had, or extend a finished one."""
    from rich.console import Console

    from sparsesearch.engine import controller
    from sparsesearch.engine.progress import Reporter
    from sparsesearch.report.html import write_report
    from sparsesearch.report.png import write_png
    from sparsesearch.report.terminal import print_summary

    path = Path(run)
    changes: dict[str, Any] = set_if_given(
        executor__kind=executor, executor__workers=workers, executor__address=address,
        search__evals=_evals(path, evals),
    )  # fmt: skip
    found = controller.resume(path, changes, Reporter())
    write_report(found)
    write_png(found)
    if json_:
        print_json(found.front_json())
    else:
        print_summary(found, Console())
    found.require_front()


def _evals(path: Path, text: str | None) -> int | None:
    if text is None:
        return None
    from sparsesearch.config import load_config
    from sparsesearch.engine.controller import DEFAULT_EVALS
    from sparsesearch.engine.directory import RunDirectory
    from sparsesearch.errors import InputError

    if not text.removeprefix("+").isdigit():
        raise InputError("SS101", f"--evals {text!r} is not a number or +number.")
    if not text.startswith("+"):
        return int(text)
    had = load_config(RunDirectory.open(path).config).search.evals
    return (had or DEFAULT_EVALS) + int(text[1:])
