"""A terminal table of models on tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sparsesearch.report.texts import short_number

# Losses of at least this many standard errors are coloured.
SIGNIFICANT_ERRORS = 2.0


def task_table(report: dict[str, Any], console: Console) -> Table:
    """Return the report of `evaluate_tasks` as a table: a row for each metric of each task, a column for each model.

    Each model also has its loss: how much worse it is than dense, in the metric's own unit; losses of at least two
    standard errors are coloured. If the terminal is too narrow for a column per model, each model has its own row.
    """
    wide = _models_in_columns(report)
    fits = Measurement.get(console, console.options.update(max_width=10_000), wide).maximum <= console.width
    return wide if fits else _models_in_rows(report)


def _models_in_columns(report: dict[str, Any]) -> Table:
    models, table = report["models"], _table(report)
    for model in models:
        table.add_column(_model_name(model["target"]), justify="right")
        if model["dense"] is not None:
            table.add_column("lost", justify="right")
    for task, indent in _order(report):
        for index, (metric, higher) in enumerate(_metrics(report, task)):
            cells = [cell for model in models for cell in _cells(model, task, metric)]
            table.add_row(*_names(task, metric, higher, index, indent), *cells, style="" if indent else "bold")
    table.add_section()
    sizes = [c for m in models for c in ([short_number(m["nonzeros"])] + ([""] if m["dense"] is not None else []))]
    table.add_row("nonzeros", "", *sizes, style="dim")
    return table


def _models_in_rows(report: dict[str, Any]) -> Table:
    table = _table(report)
    table.add_column("model")
    table.add_column("", justify="right")
    table.add_column("lost", justify="right")
    for task, indent in _order(report):
        for index, (metric, higher) in enumerate(_metrics(report, task)):
            for number, model in enumerate(report["models"]):
                names = _names(task, metric, higher, index, indent) if number == 0 else ("", "")
                table.add_row(*names, _model_name(model["target"]), *_cells(model, task, metric))
    table.add_section()
    for number, model in enumerate(report["models"]):
        first = "" if number else "nonzeros"
        table.add_row(first, "", _model_name(model["target"]), short_number(model["nonzeros"]), style="dim")
    return table


def _table(report: dict[str, Any]) -> Table:
    table = Table(title=_title(report), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
    return table


def _names(task: str, metric: str, higher: bool, index: int, indent: int) -> tuple[str, str]:
    """Return the cells of task and metric; the task is named at its first metric, an arrow shows what is better."""
    return f"{'  ' * indent}{task}" if index == 0 else "", f"{metric} {'↑' if higher else '↓'}"


def _title(report: dict[str, Any]) -> str:
    documents = "all documents" if report["limit"] is None else f"the first {report['limit']:,} documents of each task"
    return f"Tasks, on {documents}; ± is a standard error"


def _model_name(target: str) -> str:
    """Return a model's short name."""
    if target.startswith("dense ("):
        return "dense"
    return Path(target).name


def _order(report: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield (name, indent) of groups, each followed by its tasks, then of tasks without a group."""
    tasks, grouped = report["models"][0]["tasks"], set()
    for group, members in report["groups"].items():
        yield group, 0
        for member in members:
            if member in tasks:
                grouped.add(member)
                yield member, 1
    for task in tasks:
        if task not in report["groups"] and task not in grouped:
            yield task, 0


def _metrics(report: dict[str, Any], task: str) -> Iterator[tuple[str, bool]]:
    for metric in report["models"][0]["tasks"][task]:
        yield metric, bool(report["metrics"].get(task, {}).get(metric.split(" (")[0], True))


def _cells(model: dict[str, Any], task: str, metric: str) -> list[Text]:
    measured = model["tasks"].get(task, {}).get(metric, {})
    if model["dense"] is None:
        return [Text(_number(measured.get("value"), measured.get("stderr")))]
    # Only the loss has an error: that of paired differences is smaller than that of the value.
    value = Text(_number(measured.get("value"), None))
    loss, error = measured.get("loss"), measured.get("loss_stderr")
    style = ""
    if loss and error is not None and abs(loss) >= SIGNIFICANT_ERRORS * error:
        style = "red" if loss > 0 else "green"
    return [value, Text(_number(loss, error), style=style)]


def _number(value: float | None, error: float | None) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if abs(value) >= 10 else f"{value:.3f}"
    return text if error is None else f"{text} ±{error:.2g}"
