"""What a run is doing, or how it ended: read from its files by a process that has nothing to do with it."""

from __future__ import annotations

import math
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
from sparsesearch.report.run_files import progress
from sparsesearch.report.series import Series, per_second, searched, series_of
from sparsesearch.report.texts import cost_text
from sparsesearch.runs.ledger import TRAINING_PASSES
from sparsesearch.runs.results import RunResults

# What each state means, and what can be done about it.
STATES = {
    "running": "",
    "busy": "a command that trains or measures its candidates",
    "finished": "",
    "interrupted": "'sparsesearch resume {path}' goes on",
    "failed": "{error}",
    "crashed": "its controller ended without a word; 'sparsesearch resume {path}' goes on",
}
STYLES = {"running": "green", "busy": "green", "finished": "bold", "failed": "red", "crashed": "red"}


def status_json(path: Path) -> dict[str, Any]:
    """What `status --json` prints.

    Times are seconds, dates ISO 8601 in local time; null is what nobody knows (yet).

    Raises InputError SS600 where there is no run, SS602 where it is no search.
    """
    results = RunResults(path)
    run, now = results.run, time.time()
    if (kind := results.info.get("kind", "search")) != "search":
        raise problem("SS602", f"{path} is an {kind}; status is of searches.")
    holder = run.holder()
    kept = _kept(results)
    config, series = load_config(run.config), series_of(results)
    state = _state(kept, holder, run.front.exists())
    phase = _phase(kept, now) if state not in ("busy", "finished") and kept else None
    evaluations, tokens = _evaluations_json(results, config, state, phase), _tokens_json(results, config)
    ledger = results.lines(results.run.ledger)
    rates, seconds = per_second(ledger), sum(line["seconds"] for line in ledger)
    running = state == "running"
    return {
        "run": str(run.path),
        "state": state,
        "controller": holder,
        "error": kept.get("error") or None,
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
    """How many the search has made, and may make."""
    begun = len({(e.genome, e.draw) for e in searched(results)})
    done = results.info.get("search_evaluations", begun) if state == "finished" else begun
    # The phase knows the default budget too.
    asked = (phase["total"] if phase and phase["name"].startswith("search") else None) or config.search.evals
    return {"done": done, "budget": asked}


def _tokens_json(results: RunResults, config: RunConfig) -> dict[str, Any]:
    """Tokens that count against the search's budget, those of gradients as often as they do there."""
    spent = sum(
        (e.sequences - e.known) * results.info["length"] + TRAINING_PASSES * e.trained * (e.sequences > e.known)
        for e in searched(results)
    )
    return {"spent": spent + results.learning_tokens, "budget": config.search.tokens}


def _front_json(results: RunResults, series: Series, state: str) -> dict[str, Any]:
    """The front: the final one where there is one and nobody searches, else what the search has reached."""
    front = results.front if results.final else []
    at_end = bool(front) and state in ("finished", "busy")
    shown = front if at_end else series.front
    best = {name: min(shown, key=lambda e, name=name: results.values(e)[name]) for name in results.objectives if shown}  # type: ignore[misc]
    return {
        "measured_on": "all selection data" if at_end else "the search's samples",
        "front": len(shown),
        "hypervolume": results.hypervolume() if at_end else _finite(series.hypervolume),
        "best": {
            name: {"id": one.genome.id} | {o: results.values(one)[o] for o in results.objectives}
            for name, one in best.items()
        },
    }


def _kept(results: RunResults) -> dict[str, Any]:
    """What the controller keeps of itself; nothing if that is missing or damaged, since nothing else depends on it."""
    with suppress(DamagedFile):
        return dict(progress(results) or {})
    return {}


def _state(kept: dict[str, Any], holder: str | None, has_front: bool) -> str:
    said = kept.get("state")
    if holder:
        return "running" if said in (None, "running") else "busy"
    if said == "running":
        return "crashed"
    return str(said or ("finished" if has_front else "interrupted"))


def _phase(kept: dict[str, Any], now: float) -> dict[str, Any]:
    return {
        "name": kept["phase"],
        "done": kept["done"],
        "total": kept["total"] or None,
        "seconds": now - kept["phase_began"],
        # Steps a second, without those that a resumed run had made before.
        "per_second": _rate(kept),
    }


def _rate(kept: dict[str, Any]) -> float | None:
    if kept["first"] is None or kept["done"] <= kept["first"] or kept["updated"] <= kept["first_at"]:
        return None
    return float((kept["done"] - kept["first"]) / (kept["updated"] - kept["first_at"]))


def _eta(
    phase: dict[str, Any] | None, evals: int, tokens: dict[str, Any], config: RunConfig, spent: float
) -> float | None:
    """Seconds until the phase ends, by the budget that ends it first."""
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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def status_view(found: dict[str, Any]) -> RenderableType:
    """The same for a terminal."""
    said = STATES[found["state"]].format(path=found["run"], error=found["error"])
    name, style = printable(Path(found["run"]).name), STYLES.get(found["state"], "yellow")
    head = Text.assemble(name, "  ", (found["state"], style), printable(f"  {said}".rstrip()))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    for name, text in _rows(found):
        table.add_row(name, text)
    return Group(head, table)


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    executor, rows = found["executor"], []
    workers = f"{executor['workers']} {executor['kind']} worker{'s' if executor['workers'] > 1 else ''}"
    if found["controller"]:
        rows.append(("controller", f"{found['controller']}, {workers}"))
    if phase := found["phase"]:
        of = f" of {phase['total']:,}" if phase["total"] else ""
        rows.append(("phase", f"{phase['name']}: {phase['done']:,}{of}, {_duration(phase['seconds'])}"))
    elif found["stopped_in"]:
        rows.append(("stopped in", found["stopped_in"]))
    rows.append(("evaluations", _evaluations(found)))
    rows.append(("tokens", _tokens(found["tokens"])))
    if found["hours"]["budget"]:
        spent = _duration(found["hours"]["spent"] * 3600)
        rows.append(("time", f"{spent} of {_duration(found['hours']['budget'] * 3600)}"))
    if found["state"] == "running":
        eta = found["eta_seconds"]
        rows.append(("left", f"about {_duration(eta)} of this phase" if eta is not None else "unknown"))
    limits = f" within {', '.join(found['limits'])}" if found["limits"] else ""
    if found["front"]:
        volume = "" if found["hypervolume"] is None else f", hypervolume {found['hypervolume']:.4g}"
        rows.append(("front", f"{found['front']} candidates{limits}, on {found['measured_on']}{volume}"))
        for name, best in found["best"].items():
            values = ", ".join(f"{n} {_value(n, best[n])}" for n in found["objectives"])
            rows.append((f"best {name}", f"{values}  ({best['id']})"))
    else:
        rows.append(("front", f"nothing measured{limits} yet"))
    ago = time.time() - datetime.fromisoformat(found["last_activity"]).timestamp()
    rows.append(("last activity", f"{found['last_activity'].replace('T', ' ')[:19]} ({_duration(max(ago, 0))} ago)"))
    return rows


def _evaluations(found: dict[str, Any]) -> str:
    evaluations, rate = found["evaluations"], found["evaluations_per_second"]
    of = f" of {evaluations['budget']:,}" if evaluations["budget"] else ""
    text = f"{evaluations['done']:,}{of}"
    if evaluations["measured"] != evaluations["done"]:
        text += f"; {evaluations['measured']:,} measurements in all"
    text += f", {evaluations['failed']} failed" if evaluations["failed"] else ""
    return text + (f", {rate:.3g}/s" if rate and found["state"] == "running" else "")


def _tokens(tokens: dict[str, Any]) -> str:
    of = f" of {tokens['budget']:,} ({tokens['spent'] / tokens['budget']:.0%})" if tokens["budget"] else ""
    text = f"{tokens['spent']:,}{of}"
    text += f"; {tokens['measured']:,} in all" if tokens["measured"] > tokens["spent"] else ""
    return text + (f"; {tokens['supernet']:,} of training the supernet" if tokens["supernet"] else "")


def _value(name: str, value: float) -> str:
    return cost_text(name, value) if isinstance(value, int) else f"{value:.4f}"


def _duration(seconds: float) -> str:
    """As `42 s`, `3 min 5 s` or `2 h 7 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
