"""Tables of a run's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from sparsesearch.report import run_files
from sparsesearch.report.lineage import LineageStep
from sparsesearch.report.pages.page import Cell, Row, table
from sparsesearch.report.payload import key_of, listed_candidates
from sparsesearch.report.texts import cost_name, cost_text
from sparsesearch.runs.results import RunResults, name_in_tests
from sparsesearch.searchers import Evaluation


def cost_cells(results: RunResults, evaluation: Evaluation) -> list[Cell]:
    """Return each cost that dense has, with its share of the dense cost."""
    dense = results.space.dense_costs
    shown = [(c, v) for c, v in evaluation.costs.items() if dense[c]]
    return [Cell(f"{cost_text(c, v)} ({v / dense[c]:.0%})", v) for c, v in shown]


def front_table(results: RunResults) -> Markup:
    """Return a table of the front, uniform candidates and dense, with test values if there are any."""
    tests, shown = run_files.read_test_values(results), listed_candidates(results)
    costs = [cost for cost, dense in results.space.dense_costs.items() if dense]
    heads = ["id", "", results.quality, *map(cost_name, costs), *([f"test {results.test_metric}"] if tests else [])]
    rows: list[Row] = []
    for evaluation, name in shown:
        row = [Cell(evaluation.genome.id, key=key_of(evaluation)), Cell(name)]
        row += [Cell(f"{evaluation.quality:.4f}", evaluation.quality), *cost_cells(results, evaluation)]
        if tests:
            row.append(Cell(f"{tests[name_in_tests(evaluation)]:.4g}" if name_in_tests(evaluation) in tests else ""))
        rows.append(row)
    picked = {e.genome for e in results.picks().values()}
    return table(heads, rows, [evaluation.genome in picked for evaluation, _ in shown])


def phases(results: RunResults) -> dict[str, list[float]]:
    """Return steps, tokens, seconds and device seconds of the ledger, summed by phase."""
    sums: dict[str, list[float]] = {}
    for entry in results.lines(results.run.ledger):
        total = sums.setdefault(entry["phase"], [0.0, 0.0, 0.0, 0.0])
        spent = (entry["count"], entry["tokens"], entry["seconds"], entry.get("device_seconds", 0.0))
        for i, value in enumerate(spent):
            total[i] += value
    return sums


def ledger_table(sums: Mapping[str, Sequence[float]]) -> Markup:
    """Return the sums of `phases` as a table."""
    rows: list[Row] = [
        [phase, f"{count:,.0f}", f"{tokens:,.0f}", f"{seconds:,.1f}", f"{device:,.1f}" if device else ""]
        for phase, (count, tokens, seconds, device) in sums.items()
    ]
    return table(["phase", "steps", "tokens", "seconds", "device seconds"], rows)


def lineage_table(results: RunResults, steps: Sequence[LineageStep]) -> Markup:
    """Return a chain as a table, its start first."""
    cost = results.objectives[1]
    dense = max(results.space.dense_costs[cost], 1)
    rows: list[Row] = [
        [
            Cell(step.evaluation.genome.id, key=key_of(step.evaluation)),
            step.origin,
            f"{step.number:,}",
            f"{step.tokens:,}",
            "" if step.changed is None else f"{step.changed:,}",
            Cell(f"{step.evaluation.quality:.4f}", step.evaluation.quality),
            f"{step.evaluation.sequences:,}",
            Cell(
                f"{cost_text(cost, step.evaluation.costs[cost])} ({step.evaluation.costs[cost] / dense:.0%})",
                step.evaluation.costs[cost],
            ),
        ]
        for step in steps
    ]
    heads = [
        "id",
        "origin",
        "candidate",
        "at tokens",
        "units changed",
        results.quality,
        "on sequences",
        cost_name(cost),
    ]
    return table(heads, rows)


def exports_table(results: RunResults, keys: Mapping[str, str]) -> Markup:
    """Return a table of the exports of the run; empty if none is recorded."""
    rows: list[Row] = [
        [
            Cell(line["id"], key=keys.get(line["id"], "")),
            line["form"],
            line["out"],
            ", ".join(line["verified"]),
            line["when"],
        ]
        for line in results.lines(results.run.exports)
    ]
    return table(["id", "form", "directory", "verified by", "when"], rows) if rows else Markup()
