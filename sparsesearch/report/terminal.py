"""Rich tables and bars for the terminal."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from sparsesearch.engine.results import RunResults, name_in_tests
from sparsesearch.searchers import Evaluation
from sparsesearch.space import COSTS, Space

# The cost that is counted in nanoseconds.
LATENCY = "latency_ns"


def short(value: float) -> str:
    """A count with three significant digits and K, M, G."""
    value = float(f"{value:.3g}")  # rounded first: 999,600 is 1M, not 1000K
    for scale, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:g}"


def cost_text(name: str, value: float) -> str:
    """A cost as tables show it: counts shortened, times in milliseconds."""
    return f"{value / 1e6:.3g} ms" if name == LATENCY else short(value)


def cost_name(name: str) -> str:
    """What goes before `cost_text`, which has the unit."""
    return "latency" if name == LATENCY else name


def front_table(results: RunResults, candidates: list[Evaluation], title: str) -> Table:
    """Candidates with quality, and each cost as a count and as a share of dense; dense and uniform for comparison.

    Where rungs of training were climbed, how many tokens each was trained on.
    """
    dense = results.space.dense_costs
    costs = [c for c in COSTS if c in results.objectives[1:]] or ["params"]
    costs += [c for c in ("params", "nonzeros") if c not in costs]
    table = Table(title=title, title_justify="left")
    table.add_column("id")
    table.add_column("pick")
    for name in (results.quality, *costs):
        table.add_column(name, justify="right")
    climbed = any(e.trained for e in candidates)
    if climbed:
        table.add_column("trained", justify="right")
    picks: dict[str, list[str]] = {}
    for rule, evaluation in results.picks().items():
        picks.setdefault(evaluation.genome.id, []).append(rule)

    def add(evaluation: Evaluation, name: str, style: str = "") -> None:
        cells = [f"{cost_text(c, evaluation.costs[c])} ({evaluation.costs[c] / dense[c]:.0%})" for c in costs]
        if climbed:
            cells.append(short(evaluation.trained) if evaluation.trained else "")
        table.add_row(evaluation.genome.id, name, f"{evaluation.quality:.4f}", *cells, style=style)

    for evaluation in candidates:
        names = picks.get(evaluation.genome.id, [])
        add(evaluation, ", ".join(names), "bold" if names else "")
    table.add_section()
    on_front = {e.genome for e in candidates}
    for baseline in results.baselines:
        if baseline.genome not in on_front:
            add(baseline, baseline.origin, "dim")
    if results.dense is not None and results.dense.genome not in on_front:
        add(results.dense, "dense", "dim")
    return table


def print_summary(results: RunResults, console: Console) -> None:
    """What a finished search prints: the front, the picks, test perplexities, and where everything is."""
    limits = ", ".join(b.text for b in results.space.bounds) or "none"
    title = f"Front of {results.run.path.name}: {len(results.front)} candidates, limits: {limits}"
    console.print(front_table(results, results.front, title))
    if results.run.test.exists():
        test = json.loads(results.run.test.read_text())
        named = {"dense": results.dense, **results.picks()}
        named |= {b.origin: b for b in results.compared_baselines()}
        parts = [f"{name} {test[name_in_tests(e)]:.4g}" for name, e in named.items() if e and name_in_tests(e) in test]
        console.print(f"Test {results.test_metric}: {', '.join(parts)}", highlight=False, soft_wrap=True)
    path = results.run.path
    learned = f", {results.learning_tokens:,} of learning" if results.learning_tokens else ""
    learned += f", {results.supernet_tokens:,} of training the supernet" if results.supernet_tokens else ""
    console.print(f"{len(results.evaluations)} evaluations, {results.tokens:,} tokens{learned}.", highlight=False)
    console.print(f"Report: {path / 'report.html'}", highlight=False, soft_wrap=True)
    export = f"sparsesearch export {path} --pick knee --out smaller-model"
    console.print(f"Export: {export}", highlight=False, soft_wrap=True)


def unit_bars(space: Space, candidate: Evaluation) -> Table:
    """A bar for every unit: what is kept."""
    table = Table(title=f"Candidate {candidate.genome.id}", title_justify="left")
    table.add_column("unit")
    table.add_column("kept", justify="right")
    table.add_column("")
    for unit, level in zip(space.units, candidate.genome.levels.tolist(), strict=True):
        kept = 1 - unit.removed(level)
        bar = "█" * round(kept * 20)
        count = f"{unit.levels[level]:,} of {unit.total:,}"
        table.add_row(unit.name.removeprefix("model."), count, f"{bar:<20} {kept:.0%}")
    return table


def latency_table(results: RunResults, found: dict[str, Any]) -> Table:
    """Milliseconds and megabytes of finalists as measured, and the share of dense that was predicted.

    The error is that of the share: how fast the machine was when the table was made plays no part in it.

    Args:
        found: of `export.latency.measure_finalists`.
    """
    setting, dense = found["setting"], found["dense"]
    table = Table(title=f"Measured on {setting['hardware']}", title_justify="left")
    predicted = "predicted_ns" in dense
    heads = ["ms", "of dense", *(["predicted", "error"] if predicted else []), "MB"]
    for head in ("id", *heads):
        table.add_column(head, justify="left" if head == "id" else "right")
    for name, taken in found.items():
        if name == "setting":
            continue
        ns = taken["measured_ns"]
        cells = [f"{ns / 1e6:.3g}", f"{ns / dense['measured_ns']:.0%}"]
        if predicted:
            share = taken["predicted_ns"] / dense["predicted_ns"]
            cells += [f"{share:.0%}", f"{share * dense['measured_ns'] / ns - 1:+.1%}"]
        table.add_row(name, *cells, f"{taken['measured_bytes'] / 1e6:.3g}")
    return table
