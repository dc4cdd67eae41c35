"""Tables and bars for the terminal."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from sparsesearch.report.facts import row_name
from sparsesearch.report.payload import listed_candidates
from sparsesearch.report.run_files import read_test_values
from sparsesearch.report.texts import cost_name, cost_text, request_text, short_number
from sparsesearch.runs.results import RunResults, name_in_tests
from sparsesearch.searchers import Evaluation
from sparsesearch.space import COSTS, Space

# Fewest columns of a bar.
MIN_BAR_WIDTH = 3


def front_table(results: RunResults, candidates: list[Evaluation], title: str, within: Space | None = None) -> Table:
    """Return a table of candidates with quality and costs, as counts and shares of dense; then uniform ones and dense.

    If the run has rungs of training, the table has the tokens that each candidate was trained on.

    Args:
        within: a space whose limits uniform candidates must respect to be shown; None shows all.
    """
    dense = results.space.dense_costs
    costs = [c for c in COSTS if c in results.objectives[1:]] or ["params"]
    costs += [c for c in ("params", "nonzeros") if c not in costs]
    table = Table(title=title, title_justify="left")
    # An id must not be cut short; names of picks may take several lines.
    table.add_column("id", no_wrap=True)
    table.add_column("pick", overflow="fold")
    for name in (results.quality, *map(cost_name, costs)):
        table.add_column(name, justify="right")
    climbed = any(e.trained for e in candidates)
    if climbed:
        table.add_column("trained", justify="right")
    names = {e.genome: name for e, name in listed_candidates(results)}
    picks = {e.genome for e in results.picks().values()}

    def add(evaluation: Evaluation, name: str, style: str = "") -> None:
        cells = [f"{cost_text(c, evaluation.costs[c])} ({evaluation.costs[c] / dense[c]:.0%})" for c in costs]
        if climbed:
            cells.append(short_number(evaluation.trained) if evaluation.trained else "")
        table.add_row(evaluation.genome.id, name, f"{evaluation.quality:.4f}", *cells, style=style)

    for evaluation in candidates:
        add(evaluation, names.get(evaluation.genome, ""), "bold" if evaluation.genome in picks else "")
    table.add_section()
    on_front = {e.genome for e in candidates}
    for baseline in results.baselines:
        if baseline.genome not in on_front and (within is None or within.feasible(baseline.genome)):
            add(baseline, baseline.origin, "dim")
    if results.dense is not None and results.dense.genome not in on_front:
        add(results.dense, "dense", "dim")
    return table


def print_summary(results: RunResults, console: Console) -> None:
    """Print the summary of a finished search: its front, picks, test values, and the paths of its files."""
    limits = ", ".join(b.text for b in results.space.bounds) or "none"
    title = f"Front of {results.run.path.name}: {len(results.front)} candidates, limits: {limits}"
    console.print(front_table(results, results.front, title))
    if test := read_test_values(results):
        tested = {"dense": results.dense, **results.picks()}
        tested |= {b.origin: b for b in results.compared_baselines()}
        parts = [f"{name} {test[name_in_tests(e)]:.4g}" for name, e in tested.items() if e and name_in_tests(e) in test]
        console.print(f"Test {results.test_metric}: {', '.join(parts)}", highlight=False, soft_wrap=True)
    path = results.run.path
    learned = f", {results.learning_tokens:,} for learning" if results.learning_tokens else ""
    learned += f", {results.supernet_tokens:,} for training the supernet" if results.supernet_tokens else ""
    console.print(f"{len(results.evaluations)} evaluations, {results.tokens:,} tokens{learned}.", highlight=False)
    console.print(f"Report: {path / 'report.html'}", highlight=False, soft_wrap=True)
    export = f"sparsesearch export {path} --pick knee --out smaller-model"
    console.print(f"Export: {export}", highlight=False, soft_wrap=True)


def unit_bars(space: Space, candidate: Evaluation) -> Table:
    """Return a table with a bar for every unit, showing the share that a candidate keeps."""
    table = Table(title=f"Candidate {candidate.genome.id}", title_justify="left")
    table.add_column("unit")
    table.add_column("kept", justify="right")
    table.add_column("")
    for unit, level in zip(space.units, candidate.genome.levels.tolist(), strict=True):
        kept = 1 - unit.removed_fraction(level)
        count = f"{unit.levels[level]:,} of {unit.total:,}"
        table.add_row(unit.name.removeprefix("model."), count, f"{_bar(kept, 20):<20} {kept:.0%}")
    return table


def latency_table(results: RunResults, latencies: dict[str, Any]) -> Table:
    """Return a table of measured milliseconds and megabytes of finalists, and of predicted shares of dense.

    The error is that of the share, so it does not depend on the speed of the machine when the table was made.

    Args:
        latencies: as `run_files.read_latencies` returns them.
    """
    setting, dense = latencies["setting"], latencies["dense"]
    table = Table(title=f"Measured: {request_text(setting)}", title_justify="left")
    predicted = "predicted_ns" in dense
    heads = ["ms", "of dense", *(["predicted", "error"] if predicted else [])]
    heads += ["MB", *(["MB predicted at most"] if predicted else [])]
    for head in ("id", *heads):
        table.add_column(head, justify="left" if head == "id" else "right")
    for name, latency in latencies.items():
        if name == "setting":
            continue
        ns = latency["measured_ns"]
        cells = [f"{ns / 1e6:.3g}", f"{ns / dense['measured_ns']:.0%}"]
        if predicted:
            share = latency["predicted_ns"] / dense["predicted_ns"]
            cells += [f"{share:.0%}", f"{share * dense['measured_ns'] / ns - 1:+.1%}"]
        memory = ["measured_bytes", *(["predicted_bytes"] if predicted else [])]
        table.add_row(name, *cells, *(f"{latency[kind] / 1e6:.3g}" for kind in memory))
    return table


def block_bars(space: Space, candidate: Evaluation, width: int) -> Table | None:
    """Return a table with a row for each block, so that a deep network fits on a screen of `width` columns.

    None if it does not fit: if there are too many kinds of units, or several units of one kind in a block.
    """
    rows = list(dict.fromkeys(row_name(u.module, u.kind) for u in space.units))
    kept = {
        (u.block, row_name(u.module, u.kind)): 1 - u.removed_fraction(level)
        for u, level in zip(space.units, candidate.genome.levels.tolist(), strict=True)
    }
    # A column is a bar, a space and `100%`; two spaces separate columns.
    size = min((width - len("block")) // len(rows) - 7, 16)
    if size < MIN_BAR_WIDTH or len(kept) < len(space.units):
        return None
    table = Table(
        title=f"Candidate {candidate.genome.id}: what each block keeps",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column("block", justify="right")
    for row in rows:
        table.add_column(row.removesuffix(" sparsity"), overflow="fold")
    for block in dict.fromkeys(u.block for u in space.units):
        table.add_row(str(block), *(_share(kept.get((block, row)), size) for row in rows))
    table.add_section()
    means = [float(np.mean([value for (_, name), value in kept.items() if name == row])) for row in rows]
    table.add_row("mean", *(_share(mean, size) for mean in means), style="bold")
    return table


def _share(kept: float | None, size: int) -> str:
    """Return a bar and a percentage; empty if a block has no such unit."""
    return "" if kept is None else f"{_bar(kept, size):<{size}} {kept:>4.0%}"


def _bar(kept: float, size: int) -> str:
    """Return a bar of at most `size` columns, with a resolution of an eighth; any share above zero is visible."""
    eighths = max(round(kept * size * 8), int(kept > 0))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
