"""The status of a run: what it is doing, or how it ended, read from its files by another process."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sparsesearch.config import RunConfig, load_config
from sparsesearch.errors import DamagedFile, printable, problem
from sparsesearch.files import json_number
from sparsesearch.report.run_files import read_progress
from sparsesearch.report.series import SearchSeries, budgeted_evaluations, evaluation_rates, series_of
from sparsesearch.report.texts import cost_text
from sparsesearch.runs.ledger import TRAINING_PASSES
from sparsesearch.runs.results import RunResults

# Explanation of each state, and what to do.
STATES = {
    "running": "",
    "busy": "a command is training or measuring its candidates",
    "finished": "",
    "interrupted": "continue with 'sparsesearch resume {path}'",
    "failed": "{error}",
    "crashed": "the controller died without recording an exit; continue with 'sparsesearch resume {path}'",
}
STYLES = {"running": "green", "busy": "green", "finished": "bold", "failed": "red", "crashed": "red"}


def status_json(path: Path) -> dict[str, Any]:
    """Return the document that `status --json` prints.

    Times are seconds, dates ISO 8601 in local time; unknown values are null.

    Raises InputError SS600 if there is no run, SS602 if the run is not a search.
    """
    results = RunResults(path)
    run, now = results.run, time.time()
    if (kind := results.info.get("kind", "search")) != "search":
        raise problem("SS602", f"{path} is an {kind}; status shows searches only.")
    holder = run.holder()
    progress = _read_progress(results)
    config, series = load_config(run.config), series_of(results)
    state = _state(progress, holder, run.front.exists())
    phase = _phase(progress, now) if state not in ("busy", "finished") and progress else None
    evaluations, tokens = _evaluations_json(results, config, state, phase), _tokens_json(results, config)
    ledger = results.lines(results.run.ledger)
    rates, seconds = evaluation_rates(ledger), sum(line["seconds"] for line in ledger)
    running = state == "running"
    return {
        "run": str(run.path),
        "state": state,
        "controller": holder,
        "error": progress.get("error") or None,
        "searcher": config.search.searcher,
        "executor": {"kind": config.executor.kind, "workers": _workers(config)},
        "phase": phase if running else None,
        "stopped_in": phase["name"] if phase and not running else None,
        "evaluations": evaluations | {"measured": series.evaluations, "failed": series.failed},
        "tokens": tokens | {"measured": series.tokens, "supernet": results.supernet_tokens},
        "hours": {"spent": seconds / 3600, "budget": config.search.hours},
        "evaluations_per_second": rates[-1][1] if rates else None,
        "eta_seconds": _eta(phase, evaluations["done"], tokens, config, seconds) if running else None,
        "failures": str(results.run.failures) if results.run.failures.exists() else None,
        "last_activity": _iso(_last_activity(results)),
        "limits": [bound.text for bound in results.space.bounds],
        "objectives": results.objectives,
    } | _front_json(results, series, state)


def _evaluations_json(
    results: RunResults, config: RunConfig, state: str, phase: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the number of evaluations of the search, and its budget."""
    started = len({(e.genome, e.draw) for e in budgeted_evaluations(results)})
    done = results.info.get("search_evaluations", started) if state == "finished" else started
    # The total of the phase includes a default budget, which the configuration does not have.
    budget = (phase["total"] if phase and phase["name"].startswith("search") else None) or config.search.evals
    return {"done": done, "budget": budget}


def _tokens_json(results: RunResults, config: RunConfig) -> dict[str, Any]:
    """Return the tokens that count against the search's budget, where those of training count several times."""
    spent = sum(
        e.measured_sequences * results.info["length"] + TRAINING_PASSES * e.trained * bool(e.measured_sequences)
        for e in budgeted_evaluations(results)
    )
    return {"spent": spent + results.learning_tokens, "budget": config.search.tokens}


def _front_json(results: RunResults, series: SearchSeries, state: str) -> dict[str, Any]:
    """Return the front: the final one if there is one and the search has ended, else the search's front so far."""
    front = results.front if results.final else []
    at_end = bool(front) and state in ("finished", "busy")
    shown = front if at_end else series.front
    best = {name: min(shown, key=lambda e, name=name: results.values(e)[name]) for name in results.objectives if shown}  # type: ignore[misc]
    return {
        "measured_on": "all selection data" if at_end else "the search's samples",
        "front": len(shown),
        "hypervolume": results.hypervolume() if at_end else json_number(series.hypervolume),
        "best": {
            name: {"id": evaluation.genome.id} | {o: results.values(evaluation)[o] for o in results.objectives}
            for name, evaluation in best.items()
        },
    }


def _read_progress(results: RunResults) -> dict[str, Any]:
    """Read the controller's progress; empty if the file is missing or damaged, since nothing else depends on it."""
    with suppress(DamagedFile):
        return dict(read_progress(results) or {})
    return {}


def _state(progress: dict[str, Any], holder: str | None, has_front: bool) -> str:
    recorded = progress.get("state")
    if holder:
        return "running" if recorded in (None, "running") else "busy"
    if recorded == "running":
        return "crashed"
    return str(recorded or ("finished" if has_front else "interrupted"))


def _phase(progress: dict[str, Any], now: float) -> dict[str, Any]:
    return {
        "name": progress["phase"],
        "done": progress["done"],
        "total": progress["total"] or None,
        "seconds": now - progress["phase_began"],
        "per_second": _rate(progress),
    }


def _rate(progress: dict[str, Any]) -> float | None:
    """Return steps per second of this phase, without those that a resumed run had made before."""
    first, first_at = progress["first"], progress["first_at"]
    if first is None or progress["done"] <= first or progress["updated"] <= first_at:
        return None
    return float((progress["done"] - first) / (progress["updated"] - first_at))


def _eta(
    phase: dict[str, Any] | None, evals: int, tokens: dict[str, Any], config: RunConfig, spent: float
) -> float | None:
    """Return the seconds until the phase ends, by the budget that ends it first."""
    if phase is None or not phase["per_second"]:
        return None
    left = []
    if phase["total"]:
        left.append((phase["total"] - phase["done"]) / phase["per_second"])
    if phase["name"].startswith("search"):
        if tokens["budget"] and tokens["spent"]:
            left.append((tokens["budget"] - tokens["spent"]) * evals / tokens["spent"] / phase["per_second"])
        if config.search.hours:
            left.append(config.search.hours * 3600 - spent)
    return max(min(left), 0.0) if left else None


def _workers(config: RunConfig) -> int:
    return config.executor.workers if config.executor.kind == "ray" else 1


def _last_activity(results: RunResults) -> float:
    run = results.run
    return max(p.stat().st_mtime for p in (run.config, run.progress, run.archive, run.ledger) if p.exists())


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def status_view(status: dict[str, Any]) -> RenderableType:
    """Return the document of `status_json` as a table for the terminal."""
    explanation = STATES[status["state"]].format(path=status["run"], error=status["error"])
    name, style = printable(Path(status["run"]).name), STYLES.get(status["state"], "yellow")
    head = Text.assemble(name, "  ", (status["state"], style), printable(f"  {explanation}".rstrip()))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    for name, text in _rows(status):
        table.add_row(name, text)
    return Group(head, table)


def _rows(status: dict[str, Any]) -> list[tuple[str, str]]:
    executor, rows = status["executor"], []
    workers = f"{executor['workers']} {executor['kind']} worker{'s' if executor['workers'] > 1 else ''}"
    if status["controller"]:
        rows.append(("controller", f"{status['controller']}, {workers}"))
    if phase := status["phase"]:
        of = f" of {phase['total']:,}" if phase["total"] else ""
        rows.append(("phase", f"{phase['name']}: {phase['done']:,}{of}, {_duration(phase['seconds'])}"))
    elif status["stopped_in"]:
        rows.append(("stopped in", status["stopped_in"]))
    rows.append(("evaluations", _evaluations(status)))
    if status["failures"]:
        rows.append(("failures", f"tracebacks in {printable(status['failures'])}"))
    rows.append(("tokens", _tokens(status["tokens"])))
    if status["hours"]["budget"]:
        spent = _duration(status["hours"]["spent"] * 3600)
        rows.append(("time", f"{spent} of {_duration(status['hours']['budget'] * 3600)}"))
    if status["state"] == "running":
        eta = status["eta_seconds"]
        rows.append(("left", f"about {_duration(eta)} of this phase" if eta is not None else "unknown"))
    limits = f" within {', '.join(status['limits'])}" if status["limits"] else ""
    if status["front"]:
        volume = "" if status["hypervolume"] is None else f", hypervolume {status['hypervolume']:.4g}"
        rows.append(("front", f"{status['front']} candidates{limits}, on {status['measured_on']}{volume}"))
        for name, best in status["best"].items():
            values = ", ".join(f"{n} {_value(n, best[n])}" for n in status["objectives"])
            rows.append((f"best {name}", f"{values}  ({best['id']})"))
    else:
        rows.append(("front", f"nothing measured{limits} yet"))
    ago = time.time() - datetime.fromisoformat(status["last_activity"]).timestamp()
    rows.append(("last activity", f"{status['last_activity'].replace('T', ' ')[:19]} ({_duration(max(ago, 0))} ago)"))
    return rows


def _evaluations(status: dict[str, Any]) -> str:
    evaluations, rate = status["evaluations"], status["evaluations_per_second"]
    of = f" of {evaluations['budget']:,}" if evaluations["budget"] else ""
    text = f"{evaluations['done']:,}{of}"
    if evaluations["measured"] != evaluations["done"]:
        text += f"; {evaluations['measured']:,} measurements in total"
    text += f", {evaluations['failed']} failed" if evaluations["failed"] else ""
    return text + (f", {rate:.3g}/s" if rate and status["state"] == "running" else "")


def _tokens(tokens: dict[str, Any]) -> str:
    of = f" of {tokens['budget']:,} ({tokens['spent'] / tokens['budget']:.0%})" if tokens["budget"] else ""
    text = f"{tokens['spent']:,}{of}"
    text += f"; {tokens['measured']:,} in total" if tokens["measured"] > tokens["spent"] else ""
    return text + (f"; {tokens['supernet']:,} for training the supernet" if tokens["supernet"] else "")


def _value(name: str, value: float) -> str:
    return cost_text(name, value) if isinstance(value, int) else f"{value:.4f}"


def _duration(seconds: float) -> str:
    """Return a text such as `42 s`, `3 min 5 s` or `2 h 7 min`."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    minutes = rounded // 60
    return f"{minutes} min {rounded % 60} s" if rounded < 3600 else f"{minutes // 60} h {minutes % 60} min"
