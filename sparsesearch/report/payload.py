"""The data from which a page's script draws any candidate: the space, and genomes with facts about them."""

from __future__ import annotations

from typing import Any

from sparsesearch.report.facts import row_name, rows_of, search_evaluations
from sparsesearch.report.lineage import Ancestry
from sparsesearch.report.run_files import read_test_values
from sparsesearch.report.texts import cost_name, cost_text
from sparsesearch.runs.results import RunResults, name_in_tests
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Space

# Most levels in a page; beyond it, candidates that were measured only on search samples are left out.
MAX_LEVELS = 400_000


def key_of(evaluation: Evaluation, run: int | None = None) -> str:
    """Return the key of a candidate in a page.

    Args:
        run: number of the run, if a page shows several.
    """
    name = name_in_tests(evaluation)
    return name if run is None else f"{run}:{name}"


def space_data(space: Space) -> dict[str, Any]:
    """Return rows and blocks of the chart, and every unit's place in it."""
    rows = rows_of(space)
    units = [
        {"name": u.name, "row": rows.index(row_name(u.module, u.kind)), "block": u.block, "levels": u.levels}
        for u in space.units
    ]
    return {"rows": rows, "blocks": sorted({u.block for u in space.units}), "units": units}


def picks_by_name(results: RunResults) -> dict[str, Evaluation]:
    """Return the picked candidates, each once, by its rules, such as `knee, best`."""
    names: dict[str, list[str]] = {}
    for rule, evaluation in results.picks().items():
        names.setdefault(evaluation.genome.id, []).append(rule)
    by_id = {e.genome.id: e for e in results.picks().values()}
    return {", ".join(rules): by_id[identity] for identity, rules in names.items()}


def listed_candidates(results: RunResults) -> list[tuple[Evaluation, str]]:
    """Return (candidate, name) of the candidates that tables list: the front, uniform ones, dense."""
    picks = {e.genome.id: [rules] for rules, e in picks_by_name(results).items()}
    uniform = {e.genome: e.origin for e in results.baselines}
    on_front = {e.genome for e in results.front}
    listed = []
    for evaluation in results.front:
        names = picks.get(evaluation.genome.id, []) + [uniform[g] for g in [evaluation.genome] if g in uniform]
        listed.append((evaluation, ", ".join(names)))
    listed += [(e, e.origin) for e in results.baselines if e.genome not in on_front]
    return listed + [(e, "dense") for e in [results.dense] if e]


def candidates(results: RunResults, run: int | None = None) -> dict[str, Any]:
    """Return all candidates that fit into a page, by key: listed and finally measured ones, then the search's own."""
    included: dict[str, tuple[Evaluation, str]] = {}
    for evaluation, name in [
        *listed_candidates(results),
        *((e, "") for e in [*results.final, *results.rung_evaluations, *results.learned]),
    ]:
        included.setdefault(key_of(evaluation, run), (evaluation, name))
    for evaluation in [*(e for _, e in search_evaluations(results)), *results.evaluations]:
        if evaluation.status == "ok" and (len(included) + 1) * len(results.space.units) <= MAX_LEVELS:
            included.setdefault(key_of(evaluation, run), (evaluation, ""))
    ancestry, tests = Ancestry(results), read_test_values(results)
    cost, uniform = results.objectives[1], results.baselines
    data = {}
    for key, (evaluation, name) in included.items():
        nearest = min(uniform, key=lambda u: abs(u.costs[cost] - evaluation.costs[cost]), default=None)
        data[key] = {
            "space": run or 0,
            "levels": evaluation.genome.levels.tolist(),
            "title": title(results, evaluation, name, run),
            "facts": _facts(results, evaluation, ancestry.origin(evaluation.genome), tests),
            "beside": key_of(nearest, run) if nearest else "",
        }
    return data


def title(results: RunResults, evaluation: Evaluation, name: str, run: int | None) -> str:
    """Return a candidate's name and id, and its run if a page shows several."""
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
