"""Models side by side on tasks, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sparsesearch.report.texts import short

# Standard errors from which on a loss stands out.
CLEAR = 2.0


def task_table(found: dict[str, Any], console: Console) -> Table:
    """What `evaluate_tasks` returns: a row for each metric of each task, a column for each model, and what it lost.

    Losses are how much worse than dense, in the metric's own unit; those of two standard errors and more have a colour.
    Where the terminal is too narrow for all models side by side, each has a row of its own.
    """
    wide = _side_by_side(found)
    fits = Measurement.get(console, console.options.update(max_width=10_000), wide).maximum <= console.width
    return wide if fits else _one_below_another(found)


def _side_by_side(found: dict[str, Any]) -> Table:
    models, table = found["models"], _table(found)
    for model in models:
        table.add_column(_short(model["target"]), justify="right")
        if model["dense"] is not None:
            table.add_column("lost", justify="right")
    for task, indent in _order(found):
        for index, (metric, higher) in enumerate(_metrics(found, task)):
            cells = [cell for model in models for cell in _cells(model, task, metric)]
            table.add_row(*_names(task, metric, higher, index, indent), *cells, style="" if indent else "bold")
    table.add_section()
    sizes = [c for m in models for c in ([short(m["nonzeros"])] + ([""] if m["dense"] is not None else []))]
    table.add_row("nonzeros", "", *sizes, style="dim")
    return table


def _one_below_another(found: dict[str, Any]) -> Table:
    table = _table(found)
    table.add_column("model")
    table.add_column("", justify="right")
    table.add_column("lost", justify="right")
    for task, indent in _order(found):
        for index, (metric, higher) in enumerate(_metrics(found, task)):
            for number, model in enumerate(found["models"]):
                names = _names(task, metric, higher, index, indent) if number == 0 else ("", "")
                table.add_row(*names, _short(model["target"]), *_cells(model, task, metric))
    table.add_section()
    for number, model in enumerate(found["models"]):
        first = "" if number else "nonzeros"
        table.add_row(first, "", _short(model["target"]), short(model["nonzeros"]), style="dim")
    return table


def _table(found: dict[str, Any]) -> Table:
    table = Table(title=_title(found), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
    return table


def _names(task: str, metric: str, higher: bool, index: int, indent: int) -> tuple[str, str]:
    """A task, named at its first metric alone, and a metric with the way that is better."""
    return f"{'  ' * indent}{task}" if index == 0 else "", f"{metric} {'↑' if higher else '↓'}"


def _title(found: dict[str, Any]) -> str:
    documents = "all documents" if found["limit"] is None else f"the first {found['limit']:,} documents of each task"
    return f"Tasks, on {documents}; ± is a standard error"


def _short(target: str) -> str:
    """A name for the head of a column."""
    if target.startswith("dense ("):
        return "dense"
    return Path(target).name


def _order(found: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Groups, each with its tasks under it, then tasks of no group."""
    tasks, grouped = found["models"][0]["tasks"], set()
    for group, members in found["groups"].items():
        yield group, 0
        for member in members:
            if member in tasks:
                grouped.add(member)
                yield member, 1
    for task in tasks:
        if task not in found["groups"] and task not in grouped:
            yield task, 0


def _metrics(found: dict[str, Any], task: str) -> Iterator[tuple[str, bool]]:
    for metric in found["models"][0]["tasks"][task]:
        yield metric, bool(found["metrics"].get(task, {}).get(metric.split(" (")[0], True))


def _cells(model: dict[str, Any], task: str, metric: str) -> list[Text]:
    measured = model["tasks"].get(task, {}).get(metric, {})
    if model["dense"] is None:
        return [Text(_number(measured.get("value"), measured.get("stderr")))]
    # What it lost says how sure that is, which the value's own error does not.
    value = Text(_number(measured.get("value"), None))
    loss, error = measured.get("loss"), measured.get("loss_stderr")
    style = ""
    if loss and error is not None and abs(loss) >= CLEAR * error:
        style = "red" if loss > 0 else "green"
    return [value, Text(_number(loss, error), style=style)]


def _number(value: float | None, error: float | None) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if abs(value) >= 10 else f"{value:.3f}"
    return text if error is None else f"{text} ±{error:.2g}"
