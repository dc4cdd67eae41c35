"""Choosing candidates of a run: by the start of an id, by a rule, or by a name that tables show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsesearch import pareto
from sparsesearch.errors import problem
from sparsesearch.searchers.records import Evaluation

if TYPE_CHECKING:
    from sparsesearch.runs.results import RunResults


def find(results: RunResults, identity: str) -> Evaluation:
    """Return a candidate by the start of its id: at its highest rung, else its most thorough measurement.

    Raises InputError SS501 if none or several have such an id, or it could not be measured.
    """
    path = results.run.path
    evaluations = [*results.evaluations, *results.trained_evaluations, *results.learned]
    candidates = [e for e in evaluations if e.genome.id.startswith(identity)]
    if not candidates:
        raise problem("SS501", f"no candidate {identity!r} in {path}.", fix=f"See: sparsesearch front {path}")
    count = len({e.genome.id for e in candidates})
    if count > 1:
        raise problem("SS501", f"{identity!r} names {count} candidates.", fix="Give more characters of the id.")
    measured = [e for e in candidates if e.status == "ok"]
    if not measured:
        failed = candidates[0]
        raise problem("SS501", f"candidate {failed.genome.id} could not be measured: {failed.error}")
    return max(
        measured, key=lambda e: (e in results.trained_evaluations, e in results.front, not e.trained, e.sequences)
    )


def pick(results: RunResults, rule: str) -> Evaluation:
    """Return a candidate by a rule of `pareto.pick`, or by its name in tables: best, knee, dense, ...

    Raises InputError SS501 for an unknown rule, InfeasibleError SS406 if no candidate respects every limit.
    """
    require_front(results)
    named = {e.origin: e for e in results.baselines} | ({"dense": results.dense} if results.dense else {})
    if rule in named:
        return named[rule]
    rule = results.named_picks.get(rule, rule)
    return pareto.pick(rule, results.front, results.values, results.objectives, results.space.dense_costs)


def require_front(results: RunResults) -> None:
    """Raise InfeasibleError SS406 if no candidate respects every limit, InputError SS600 if the run has not ended."""
    path = results.run.path
    if not results.final:
        raise problem(
            "SS600", f"{path} has no final measurements yet.", fix="Let it end, or use 'sparsesearch resume'."
        )
    if results.front:
        return
    dense = results.space.dense
    failed = [e for e in results.evaluations if e.status != "ok"]
    if failed and len(failed) >= sum(e.genome != dense for e in results.evaluations):
        raise problem(
            "SS406",
            f"{path}: no candidate could be measured; the first failed with: {failed[0].error}.",
            fix=f"See {results.run.archive}.",
        )
    if {e.genome for e in results.final} == {dense}:
        raise problem("SS406", f"{path} measured nothing but the dense model.", fix="Raise search.evals (--evals).")
    raise problem(
        "SS406", f"{path} has no candidate that respects every limit.", fix="Raise the limits, or search longer."
    )
