"""What the script of a page needs to draw any candidate: the space, and genomes with what to say about them."""

from __future__ import annotations

from typing import Any

from sparsesearch.report.facts import row_name, rows_of, search_evaluations
from sparsesearch.report.lineage import Ancestry
from sparsesearch.report.run_files import test_values
from sparsesearch.report.texts import cost_name, cost_text
from sparsesearch.runs.results import RunResults, name_in_tests
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Space

# Levels in a page: candidates that were measured on search samples alone are left out where there would be more.
MOST_LEVELS = 400_000


def key_of(evaluation: Evaluation, run: int | None = None) -> str:
    """What a page calls a candidate.

    Args:
        run: number of the run, where a page shows several.
    """
    name = name_in_tests(evaluation)
    return name if run is None else f"{run}:{name}"


def space_data(space: Space) -> dict[str, Any]:
    """Rows and blocks of the chart, and every unit's place in it."""
    rows = rows_of(space)
    units = [
        {"name": u.name, "row": rows.index(row_name(u.module, u.kind)), "block": u.block, "levels": u.levels}
        for u in space.units
    ]
    return {"rows": rows, "blocks": sorted({u.block for u in space.units}), "units": units}


def picked(results: RunResults) -> dict[str, Evaluation]:
    """The picks, each candidate once under all its names."""
    names: dict[str, list[str]] = {}
    for rule, evaluation in results.picks().items():
        names.setdefault(evaluation.genome.id, []).append(rule)
    by_id = {e.genome.id: e for e in results.picks().values()}
    return {", ".join(rules): by_id[identity] for identity, rules in names.items()}


def named(results: RunResults) -> list[tuple[Evaluation, str]]:
    """Candidates that stand in tables, with their names there: the front, uniform ones, dense."""
    picks = {e.genome.id: [rules] for rules, e in picked(results).items()}
    uniform = {e.genome: e.origin for e in results.baselines}
    on_front = {e.genome for e in results.front}
    found = []
    for evaluation in results.front:
        names = picks.get(evaluation.genome.id, []) + [uniform[g] for g in [evaluation.genome] if g in uniform]
        found.append((evaluation, ", ".join(names)))
    found += [(e, e.origin) for e in results.baselines if e.genome not in on_front]
    return found + [(e, "dense") for e in [results.dense] if e]


def candidates(results: RunResults, run: int | None = None) -> dict[str, Any]:
    """All candidates that fit into a page, by key: those of tables and final measurements, then the search's own."""
    known: dict[str, tuple[Evaluation, str]] = {}
    for evaluation, name in [*named(results), *((e, "") for e in [*results.final, *results.climbed, *results.learned])]:
        known.setdefault(key_of(evaluation, run), (evaluation, name))
    for evaluation in [*(e for _, e in search_evaluations(results)), *results.evaluations]:
        if evaluation.status == "ok" and (len(known) + 1) * len(results.space.units) <= MOST_LEVELS:
            known.setdefault(key_of(evaluation, run), (evaluation, ""))
    ancestry, tests = Ancestry(results), test_values(results)
    cost, uniform = results.objectives[1], results.baselines
    found = {}
    for key, (evaluation, name) in known.items():
        beside = min(uniform, key=lambda u: abs(u.costs[cost] - evaluation.costs[cost]), default=None)
        found[key] = {
            "space": run or 0,
            "levels": evaluation.genome.levels.tolist(),
            "title": title(results, evaluation, name, run),
            "facts": _facts(results, evaluation, ancestry.origin(evaluation.genome), tests),
            "beside": key_of(beside, run) if beside else "",
        }
    return found


def title(results: RunResults, evaluation: Evaluation, name: str, run: int | None) -> str:
    """A candidate's name and id, and its run where a page shows several."""
    parts = [name, evaluation.genome.id] + ([f"of {results.run.path.name}"] if run is not None else [])
    return " ".join(filter(None, parts))


def _facts(results: RunResults, evaluation: Evaluation, origin: str, tests: dict[str, float]) -> list[tuple[str, str]]:
    dense, name = results.space.dense_costs, name_in_tests(evaluation)
    facts = [(results.quality, f"{evaluation.quality:.4f} on {evaluation.sequences} sequences")]
    if name in tests:
        facts.append((f"test {results.test_metric}", f"{tests[name]:.4g}"))
    facts += [
        (cost_name(c), f"{cost_text(c, v)} ({v / dense[c]:.0%} of dense)")
        for c, v in evaluation.costs.items()
        if dense[c]
    ]
    facts += [("trained", f"{evaluation.trained:,} tokens")] if evaluation.trained else []
    facts.append(("origin", origin or evaluation.origin))
    identity = evaluation.genome.id
    return [*facts, ("export", f"sparsesearch export {results.run.path} {identity} --out {identity}")]
