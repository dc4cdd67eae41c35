"""Conformance of searchers: how they ask and what they take in. Qualities come from a formula: no model is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from sparsesearch.errors import InputError
from sparsesearch.searchers import Evaluation, Proposal, Searcher
from sparsesearch.searchers.registry import SEARCHERS, create
from sparsesearch.space import Genome, Limit, Part, Space, Unit

UNITS, SIZE = 16, 100
LIMIT = "nonzeros<=50%"
OBJECTIVES = ("quality", "nonzeros")
# Sequences that a proposal for all of them is measured on.
POOL = 1000


def sparsity_space(limit: str = LIMIT) -> Space:
    """Return a space of the sparsity of 16 matrices of 100 weights, ten levels each."""
    units = [Unit(f"l{i}", "sparsity", i // 2, SIZE, tuple(range(SIZE, 0, -10))) for i in range(UNITS)]
    parts = [Part(u.name, (SIZE,), tuple((k,) for k in u.levels), (SIZE,), (0,), sparsity=u.name) for u in units]
    return _limited(units, parts, limit)


def width_space(limit: str = LIMIT) -> Space:
    """Return a space of 16 widths of 100 neurons of a weight each, ten levels each."""
    units = [Unit(f"l{i}", "ffn_width", i, SIZE, tuple(range(SIZE, 0, -10))) for i in range(UNITS)]
    none = (0,) * 10
    parts = [Part(u.name, u.levels, (u.levels,), u.levels, none, cuts=(u.name,)) for u in units]
    return _limited(units, parts, limit)


def depth_space(limit: str = LIMIT) -> Space:
    """Return a space of 16 sublayers of 100 weights that can be dropped."""
    kinds = ("drop_attention", "drop_ffn")
    units = [Unit(f"l{i}", kinds[i % 2], i // 2, 1, (1, 0)) for i in range(UNITS)]
    parts = [Part(u.name, (SIZE,), ((SIZE,),), (SIZE,), (0,), drop=u.name) for u in units]
    return _limited(units, parts, limit)


def _limited(units: Sequence[Unit], parts: Sequence[Part], limit: str) -> Space:
    return Space(tuple(units), tuple(parts), 4, (Limit.parse(limit),) if limit else ())


def true_quality(space: Space, genome: Genome) -> float:
    """Return a loss that is convex in each unit; some units matter 16 times more, so that uniform is far from best."""
    weight = np.arange(1, len(space.units) + 1)
    return float((weight * (genome.levels / space.max_levels) ** 2).sum())


def measured(searcher: Searcher, proposal: Proposal, noise: float = 0.0) -> Evaluation:
    """Return the evaluation of a proposal, of which a sequence is a token long.

    Some sequences are harder than others for every genome, and a little more so for some.

    Args:
        noise: of the whole draw, for this genome.
    """
    count, genome, space = min(proposal.tokens or POOL, POOL), proposal.genome, searcher.space
    shared = np.random.default_rng(proposal.draw).normal(size=count)
    own = np.random.default_rng([int(genome.id, 16), proposal.draw]).normal(size=count)
    losses = true_quality(space, genome) * (1 + 0.05 * shared + 0.005 * own + noise * own[0])
    return Evaluation(
        genome,
        count,
        proposal.draw,
        proposal.origin,
        "ok",
        float(losses.mean()),
        space.costs.named(genome.levels),
        tuple(losses),
        trained=proposal.trained,
        parents=tuple(parent.id for parent in proposal.parents),
        role=proposal.role,
    )


def search(searcher: Searcher, evals: int, portion: int = 1000, backwards: bool = False) -> list[Evaluation]:
    """Return the evaluations of a search that ends after `evals` of them, or when the searcher ends it.

    Args:
        portion: largest number of proposals that are asked for at once.
        backwards: whether a portion's evaluations are told in reverse order.
    """
    evaluations: list[Evaluation] = []
    while len(evaluations) < evals and (proposals := searcher.ask(portion)):
        portion_evaluations = [measured(searcher, p) for p in proposals]
        if backwards:
            portion_evaluations.reverse()
        searcher.tell(portion_evaluations)
        evaluations += portion_evaluations
    return evaluations


def check_searcher(
    searcher: str | type[Searcher],
    space: Space | None = None,
    evals: int = 100,
    outside: Collection[str] = (),
    **options: Any,
) -> None:
    """Check a searcher, by its name or class.

    A searcher

    - begins with the dense genome, and proposes nothing else outside of the limits;
    - proposes the same with the same seed, whatever the size of portions and the order of evaluations, and proposes
      again what is put back;
    - waits until all evaluations of a generation have come, or, if it overlaps, proposes nothing that is being
      measured;
    - names as parents only genomes that were measured before;
    - has finalists, all of which were measured and are within the limits.

    Args:
        space: space to search; None: a space of sparsity, widths or sublayers, the first that the searcher takes.
        evals: number of evaluations of each search.
        outside: origins, beside `dense`, of proposals that may be outside of the limits.
        options: options of the searcher.

    Raises AssertionError, or InputError for options that it does not take or if it takes no space.
    """
    cls = SEARCHERS.find(searcher) if isinstance(searcher, str) else searcher
    name = searcher if isinstance(searcher, str) else cls.__name__

    def make(seed: int = 0) -> Searcher:
        if isinstance(searcher, str):
            return create(searcher, taken, OBJECTIVES, seed, options)
        return searcher(taken, OBJECTIVES, seed, searcher.Options(**options))

    taken = space or _first_taken(cls, name, options)
    _check_options(cls)
    _check_start(make())
    _check_limits(make(), evals, {"dense", *outside})
    _check_waiting(make())
    _check_order(make, evals)
    _check_parents(make(), evals)
    _check_failures(make(), evals)
    if cls.overlaps:
        _check_overlap(make(), evals)


def _first_taken(cls: type[Searcher], name: str, options: dict[str, Any]) -> Space:
    refusals = []
    for space in (sparsity_space(), width_space(), depth_space()):
        try:
            cls(space, OBJECTIVES, 0, cls.Options(**options))
        except InputError as error:
            refusals.append(str(error))
        else:
            return space
    raise AssertionError(f"{name} takes none of the spaces that it is checked on: {' '.join(refusals)}")


def _check_options(cls: type[Searcher]) -> None:
    assert issubclass(cls.Options, Searcher.Options), "Options is a subclass of Searcher.Options"
    try:
        cls.Options(**{"an option that nobody has": 1})
    except ValidationError:
        return
    raise AssertionError("an unknown option is refused")


def _check_start(searcher: Searcher) -> None:
    first = searcher.ask(1000)
    assert first, "generation 0 holds something"
    assert searcher.space.dense in {p.genome for p in first}, "generation 0 holds the dense genome"
    assert searcher.ask(1000) == [], "what was asked for is asked for once"
    searcher.put_back(first[1:])
    again = searcher.ask(1000)
    assert again == first[1:], "what is put back is asked for again"


def _check_limits(searcher: Searcher, evals: int, outside: Collection[str]) -> None:
    for evaluation in search(searcher, evals):
        inside = searcher.space.feasible(evaluation.genome)
        assert inside or evaluation.origin in outside, f"{evaluation} is outside of the limits"
    report = searcher.report()
    assert all(isinstance(value, (int, float)) for value in report.values()), f"a report is of numbers, got {report}"


def _check_waiting(searcher: Searcher) -> None:
    first = searcher.ask(1000)
    searcher.tell([measured(searcher, p) for p in first[:-1]])
    assert searcher.ask(1000) == [], "nothing is asked for while an answer of the generation is missing"
    searcher.tell([measured(searcher, first[-1])])
    assert searcher.ask(1000) or searcher.ends_by_itself, "the next generation is asked for, or ends_by_itself is True"


def _check_order(make: Callable[[int], Searcher], evals: int) -> None:
    whole = [(e.genome, e.sequences, e.draw) for e in search(make(1), evals)]
    parts = [(e.genome, e.sequences, e.draw) for e in search(make(1), evals, portion=3)]
    backwards = [(e.genome, e.sequences, e.draw) for e in search(make(1), evals, backwards=True)]
    assert [(e.genome, e.sequences, e.draw) for e in search(make(1), evals)] == whole, "a seed decides the search"
    count = min(len(whole), len(parts), evals)
    assert parts[:count] == whole[:count], "portions change nothing"
    assert set(backwards) == set(whole), "the order of answers changes nothing"


def _check_parents(searcher: Searcher, evals: int) -> None:
    seen: set[Genome] = set()
    while len(seen) < evals and (proposals := searcher.ask(1000)):
        for proposal in proposals:
            assert set(proposal.parents) <= seen, f"parents of {proposal.genome.id} were measured before"
            assert proposal.genome not in proposal.parents, f"{proposal.genome.id} is no parent of its own"
        before = len(seen)
        seen |= {proposal.genome for proposal in proposals}
        searcher.tell([measured(searcher, p) for p in proposals])
        if len(seen) == before:  # a generation of genomes that are known already
            evals -= len(proposals)


def _check_failures(searcher: Searcher, evals: int) -> None:
    """Every third genome fails, and stays so."""
    failing: set[Genome] = set()
    asked = 0
    while asked < evals and (proposals := searcher.ask(1000)):
        asked += len(proposals)
        evaluations = []
        for index, proposal in enumerate(proposals):
            evaluation = measured(searcher, proposal)
            starts = proposal.origin in ("dense", "uniform")
            if index % 3 == 0 and not starts and proposal.genome not in searcher.best:
                failing.add(proposal.genome)
            if proposal.genome in failing:
                evaluation = replace(evaluation, status="failed", quality=math.nan, losses=(), error="by hand")
            evaluations.append(evaluation)
        searcher.tell(evaluations)
    finalists = searcher.finalists(10)
    assert 0 < len(finalists) <= 10, f"there are 1 to 10 finalists, got {len(finalists)}"
    assert len(set(finalists)) == len(finalists), "finalists are different"
    assert not set(finalists) & failing, "what failed is no finalist"
    assert all(searcher.space.feasible(genome) for genome in finalists), "finalists are within the limits"


def _check_overlap(searcher: Searcher, evals: int) -> None:
    """Four workers, of which any may be the first to end."""
    searcher.asynchronous = True
    while searcher.waits:
        searcher.tell([measured(searcher, p) for p in searcher.ask(1000)])
    rng = np.random.default_rng(0)
    running: list[Proposal] = []
    for _ in range(evals):
        while len(running) < 4 and (proposals := searcher.ask(1)):
            (proposal,) = proposals
            known = {(other.genome, other.draw) for other in running}
            assert (proposal.genome, proposal.draw) not in known, f"{proposal.genome.id} is being measured already"
            running.append(proposal)
        if not running:
            break
        searcher.tell([measured(searcher, running.pop(int(rng.integers(len(running)))))])
