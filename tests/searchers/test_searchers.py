"""Conformance of searchers, and what each must find. Qualities come from a closed formula, so no model is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from sparsesearch import pareto
from sparsesearch.errors import InputError
from sparsesearch.searchers import Evaluation, Proposal, Searcher
from sparsesearch.searchers.evolutionary.mating import MIN_SHARE, LearnedChoice
from sparsesearch.searchers.evolutionary.nsga import NSGA2Searcher
from sparsesearch.searchers.registry import SEARCHERS, create
from sparsesearch.space import Genome, Limit, Part, Space, Unit
from sparsesearch.testing import check_searcher
from sparsesearch.testing.searchers import UNITS, measured
from sparsesearch.testing.searchers import search as run
from sparsesearch.testing.searchers import sparsity_space as space
from sparsesearch.testing.searchers import true_quality as quality_in

# name, options that make generations small
ALL: list[tuple[str, dict[str, Any]]] = [
    ("random", {"batch": 10}),
    ("evolution", {"offspring": 8, "tokens": [20, 50]}),
    ("evolution", {"offspring": 8, "tokens": [5, 40], "race": 0.9}),
    ("evopress", {"offspring": 8, "survivors": [4, 2, 1], "tokens": [10, 20, 50], "generations": 30}),
    ("tyr", {"offspring": 8, "survivors": [4, 2, 1], "tokens": [10, 20, 50], "generations": 30}),
    ("nsga2", {"population": 16, "offspring": 10}),
    ("nsga2", {"population": 16, "offspring": 10, "tokens": 80, "first_tokens": 10, "race": 0.9, "rotate": 3}),
    ("nsga3", {"population": 16, "offspring": 10}),
    ("auto", {}),
    ("auto", {"probes": 0, "offspring": 10, "sizes": 3, "variants": 2}),
    ("decomposition", {"groups": 3, "rounds": 2, "group_population": 6, "population": 16, "solutions": 4}),
    ("dp", {}),
    ("milp", {}),
    ("optuna:tpe", {"batch": 8}),
    ("optuna:nsga2", {"batch": 16}),
    ("optuna:nsga3", {"batch": 16}),
    ("optuna:cmaes", {"batch": 8}),
]
# Origins of what is made of something measured.
CHILDREN = ("mutation", "offspring", "move", "solution", "finercut")
# Options that make the others' generations small, and how many evaluations are enough.
FEW: dict[str, tuple[int, dict[str, Any]]] = {"optuna:gp": (8, {"batch": 2, "sizes": 2})}
# Origins of what is measured outside of the limits, to learn from it.
OUTSIDE = ("probe", "group", "finercut")


def true_quality(genome: Genome) -> float:
    return quality_in(space(), genome)


RACE = {"population": 16, "offspring": 10, "tokens": 80, "first_tokens": 10, "race": 0.9}


def make(name: str, options: dict[str, Any], seed: int = 0, limit: str = "nonzeros<=50%") -> Searcher:
    return create(name, space(limit), ["kl", "nonzeros"], seed, options)


@pytest.mark.parametrize("name", [name for name in SEARCHERS if name not in dict(ALL)])
def test_conformance(name: str) -> None:
    evals, options = FEW.get(name, (100, {}))
    check_searcher(name, evals=evals, outside=OUTSIDE, **options)


@pytest.mark.parametrize(("name", "options"), ALL, ids=[f"{n}-race" if "race" in o else n for n, o in ALL])
class TestSearcher:
    def test_conformance(self, name: str, options: dict[str, Any]) -> None:
        check_searcher(name, space(), outside=OUTSIDE, **options)

    def test_generation_zero_holds_uniform(self, name: str, options: dict[str, Any]) -> None:
        searcher = make(name, options)
        first = searcher.ask(1000)
        assert {"dense", "uniform"} <= {p.origin for p in first}
        uniform = next(p.genome for p in first if p.origin == "uniform")
        assert searcher.space.costs.named(uniform.levels)["nonzeros"] == UNITS * 50

    def test_children_have_parents(self, name: str, options: dict[str, Any]) -> None:
        searcher, genomes, children = make(name, options), set[Genome](), 0
        while len(genomes) < 120 and (proposals := searcher.ask(1000)):
            for proposal in proposals:
                assert proposal.parents or proposal.genome in genomes or proposal.origin not in CHILDREN
                children += bool(proposal.parents)
            genomes |= {proposal.genome for proposal in proposals}
            searcher.tell([measured(searcher, p) for p in proposals])
        assert children or name in ("random", "dp", "milp") or name.startswith("optuna:")

    def test_other_seeds_search_otherwise(self, name: str, options: dict[str, Any]) -> None:
        first, second = (run(make(name, options, seed), 80) for seed in (1, 2))
        assert [e.genome for e in first] != [e.genome for e in second]

    def test_finalists_beat_uniform(self, name: str, options: dict[str, Any]) -> None:
        searcher = make(name, options)
        # Those that think longest need fewest.
        run(searcher, 300 if name in ("auto", "optuna:tpe") else 800)
        uniform = Genome.of([5] * UNITS)
        best = min(true_quality(g) for g in searcher.finalists(10))
        # Random search is the control, and TPE spreads what it tries over all sizes; the others must be far better than
        # uniform on this landscape.
        assert best < true_quality(uniform) * (1.0 if name in ("random", "optuna:tpe") else 0.85)

    def test_options_are_checked(self, name: str, options: dict[str, Any]) -> None:
        with pytest.raises(InputError, match=r"SS101 search.options.offsprings of .*: unknown key"):
            make(name, {"offsprings": 3})
        assert issubclass(SEARCHERS[name].Options, BaseModel)


def test_children_that_lose_a_race_are_measured_less() -> None:
    evaluations = run(make("nsga2", RACE), 1000)
    children = [e for e in evaluations if e.origin == "offspring"]
    spent = {e.genome: e.sequences for e in children}  # the last measurement of each
    assert set(spent.values()) == {10, 20, 40, 80}
    assert np.mean(list(spent.values())) < 60
    # All sequences of a draw are nested, so going on costs what is new.
    assert {e.draw for e in children} == {0}


def test_a_lost_child_is_told_as_worse_than_who_beat_it() -> None:
    searcher = make("nsga2", RACE)
    assert isinstance(searcher, NSGA2Searcher)
    for _ in range(20):
        searcher.tell([measured(searcher, p) for p in searcher.ask(1000)])
        population = searcher._algorithm.pop
        members = {tuple(x): f for x, f in zip(population.get("X"), population.get("F"), strict=True)}
        thorough = {tuple(g.levels): e for g, e in searcher.best.items() if e.sequences == 80}
        first = [f for x, f in members.items() if x in thorough]
        for x, f in members.items():
            if x not in thorough and searcher.begun:
                assert any((f >= other).all() for other in first)


def test_rotation_measures_the_population_again() -> None:
    evaluations = run(make("nsga2", {**RACE, "race": 0, "rotate": 4}), 600)
    repeats = [e for e in evaluations if e.origin == "rotation"]
    assert {e.draw for e in repeats} >= {1, 2}
    assert all(sum(e.draw == draw for e in repeats) == 16 for draw in (1, 2))
    last = max(e.draw for e in evaluations)
    assert {e.draw for e in evaluations if e.origin == "offspring"} >= {0, 1, last - 1}


def test_moves_are_chosen_as_often_as_their_children_survive() -> None:
    choice = LearnedChoice(["good", "bad", "none"])
    assert choice.probabilities == pytest.approx(dict.fromkeys(choice.success, 1 / 3))
    for i in range(1000):
        choice.learn("good", i % 2 == 0)
        choice.learn("bad", i % 10 == 0)
        choice.learn("none", False)
    probabilities = choice.probabilities
    assert sum(probabilities.values()) == pytest.approx(1)
    assert probabilities["none"] == pytest.approx(MIN_SHARE / 3, abs=0.01)
    assert probabilities["good"] / probabilities["bad"] > 3


@pytest.mark.parametrize(("name", "options"), [("nsga2", {}), ("nsga3", {}), ("nsga2", RACE), ("auto", {})])
def test_without_generations_the_next_child_does_not_wait(name: str, options: dict[str, Any]) -> None:
    searcher = make(name, options)
    searcher.asynchronous = True
    while searcher.waits:
        searcher.tell([measured(searcher, p) for p in searcher.ask(1000)])
    rng, running = np.random.default_rng(0), []
    for _ in range(150 if name == "auto" else 400):
        while len(running) < 4:
            (proposal,) = searcher.ask(1)
            assert all(proposal.genome != other.genome for other in running)
            running.append(proposal)
        searcher.tell([measured(searcher, running.pop(int(rng.integers(4))))])
    best = min(true_quality(g) for g in searcher.finalists(10))
    assert best < 0.9 * true_quality(Genome.of([5] * UNITS))


def test_what_an_earlier_session_measured_is_adopted() -> None:
    first, second = (make("nsga2", {}) for _ in range(2))
    evaluations = run(first, 400)
    start = len(second.ask(1000))
    second.tell(evaluations[:start])
    second.asynchronous = True
    second.tell(evaluations[start:])
    second.adopt(evaluations[start:])
    assert {e.genome for e in evaluations} == set(second.best)
    assert min(true_quality(g) for g in second.finalists(9)) <= min(true_quality(e.genome) for e in evaluations[start:])


def test_unknown_searcher() -> None:
    with pytest.raises(InputError, match=r"SS102 search.searcher 'nsga': unknown searcher. Did you mean 'nsga"):
        make("nsga", {})


def test_evolution_needs_a_limit() -> None:
    with pytest.raises(InputError, match=r"SS106 .* minimises quality at a limit"):
        make("evolution", {}, limit="")


def test_cmaes_needs_a_limit_and_gp_a_small_space() -> None:
    with pytest.raises(InputError, match=r"SS106 optuna:cmaes minimises quality at a limit"):
        make("optuna:cmaes", {}, limit="")
    units = [Unit(f"l{i}", "sparsity", 0, 2, (2, 1)) for i in range(41)]
    parts = [Part(u.name, (2,), ((2,), (1,)), (2,), (0,), sparsity=u.name) for u in units]
    with pytest.raises(InputError, match=r"SS113 optuna:gp takes spaces of up to 40 units; this one has 41"):
        create("optuna:gp", Space(tuple(units), tuple(parts), 4), ["kl", "nonzeros"], 0, {})


def test_gp_asks_for_feasible_genomes() -> None:
    searcher = make("optuna:gp", {"batch": 2, "sizes": 2})
    evaluations = run(searcher, 8)
    assert [e.origin for e in evaluations].count("sampler") >= 2
    assert all(searcher.space.feasible(e.genome) for e in evaluations if e.origin != "dense")


def test_evopress_follows_the_papers_schedule() -> None:
    """λ children on the first stage, survivors after, the parent back in the last; fresh draws at every stage."""
    searcher = make("evopress", {"offspring": 16, "survivors": [2, 1], "tokens": [1024, 8192], "generations": 3})
    start = searcher.ask(1000)
    searcher.tell([measured(searcher, p) for p in start])
    draws, spent = set(), 0
    for _ in range(3):
        parent = searcher.parents[-1]  # type: ignore[attr-defined]
        children = searcher.ask(1000)
        assert len(children) <= 16
        assert {p.tokens for p in children} == {1024}
        evaluations = [measured(searcher, p) for p in children]
        searcher.tell(evaluations)
        best_two = {e.genome for e in sorted(evaluations, key=lambda e: e.quality)[:2]}
        last = searcher.ask(1000)
        assert {p.genome for p in last} == best_two | {parent}
        assert {p.tokens for p in last} == {8192}
        evaluations = [measured(searcher, p) for p in last]
        searcher.tell(evaluations)
        assert searcher.parents[-1] == min(evaluations, key=lambda e: e.quality).genome  # type: ignore[attr-defined]
        draws |= {p.draw for p in children} | {p.draw for p in last}
        spent += sum(p.tokens for p in children + last)
    assert searcher.ask(1000) == []
    assert len(draws) == 6
    assert spent <= 3 * (16 * 1024 + 3 * 8192)
    assert SEARCHERS["evopress"].Options().model_dump() == {
        "offspring": 64,
        "survivors": [8, 2, 1],
        "tokens": [2048, 16384, 65536],
        "race": 0,
        "max_switches": 3,
        "generations": 400,
    }


def test_nsga2_covers_the_range_of_sizes_and_beats_random() -> None:
    def volume(name: str, options: dict[str, Any]) -> tuple[float, list[int]]:
        searcher = make(name, options, limit="nonzeros<=95%")
        evaluations = run(searcher, 600)
        points = [[e.quality, e.costs["nonzeros"]] for e in evaluations if searcher.space.feasible(e.genome)]
        sizes = [searcher.space.costs.named(g.levels)["nonzeros"] for g in searcher.finalists(20)]
        return pareto.hypervolume(points, [150.0, 1600.0]), sizes

    evolved, sizes = volume("nsga2", dict(ALL)["nsga2"])
    control, _ = volume("random", dict(ALL)["random"])
    assert evolved > control
    assert min(sizes) < 400
    assert max(sizes) > 1300


def homogeneous_space(limit: str = "params<=50%") -> Space:
    """Six blocks of two widths and a drop; weights are what is kept of both."""
    units, parts = [], []
    for block in range(6):
        wide = Unit(f"b{block}", "ffn_width", block, 8, (8, 6, 4, 2))
        heads = Unit(f"b{block}.a", "kv_groups", block, 4, (4, 3, 2, 1))
        drop = Unit(f"b{block}", "drop_ffn", block, 1, (1, 0))
        units += [wide, heads, drop]
        for unit, each, by in ((wide, 100, drop.name), (heads, 80, None)):
            sizes = tuple(each * kept for kept in unit.levels)
            none = (0,) * len(sizes)
            parts.append(Part(f"{unit.name}.w", sizes, (sizes,), sizes, none, (unit.name,), drop=by))
    return Space(tuple(units), tuple(parts), 4, (Limit.parse(limit),))


def test_minitron_measures_the_largest_homogeneous_networks_and_drops_what_is_missed_least() -> None:
    here = homogeneous_space()
    options = {"top": 7, "steps": 3, "depth": 0.5}
    searcher = create("minitron", here, ["kl", "params"], 0, options)
    harms = {3: 0.1, 1: 0.2, 5: 0.3, 0: 0.4, 2: 0.5, 4: 0.6}
    first = searcher.ask(100)
    alone = {p.origin: p.genome for p in first if p.origin.startswith("without")}
    assert len(alone) == 6
    evaluations = []
    for proposal in first:
        levels, block = proposal.genome.levels, proposal.origin.removeprefix("without ")
        quality = harms[int(block)] if proposal.origin in alone else 1.0
        evaluations.append(
            Evaluation(proposal.genome, 1, 0, proposal.origin, "ok", quality, here.costs.named(levels), (quality,))
        )
    searcher.tell(evaluations)
    proposals = searcher.ask(100)
    assert len(proposals) == 7
    sizes = [here.costs.named(p.genome.levels)["params"] for p in proposals]
    assert sizes == sorted(sizes, reverse=True)
    grid = searcher.grid()  # type: ignore[attr-defined]
    assert len(grid) == 4 * 4 * 4
    inside = sorted((here.costs.named(g.levels)["params"] for g in grid if here.feasible(g)), reverse=True)
    assert sizes == inside[:7]
    for proposal in proposals:
        levels = proposal.genome.levels
        assert len({int(level) for level in levels[here.kinds == "ffn_width"]}) == 1
        assert len({int(level) for level in levels[here.kinds == "kv_groups"]}) == 1
        dropped = [int(b) for b, level in zip(here.blocks[here.drops], levels[here.drops], strict=True) if level]
        assert dropped == sorted([3, 1, 5][: len(dropped)])
    searcher.tell([measured_as(here, p) for p in proposals])
    assert searcher.ask(100) == []


def measured_as(here: Space, proposal: Proposal) -> Evaluation:
    return Evaluation(proposal.genome, 1, 0, "x", "ok", 1.0, here.costs.named(proposal.genome.levels), (1.0,))


def test_minitron_needs_a_limit_and_something_homogeneous() -> None:
    with pytest.raises(InputError, match=r"SS106 minitron measures the largest"):
        create("minitron", homogeneous_space().with_limits([]), ["kl", "params"], 0, {})
    with pytest.raises(InputError, match=r"SS106 params<=10%: no homogeneous network with at most 20%"):
        create("minitron", homogeneous_space("params<=10%"), ["kl", "params"], 0, {})
    with pytest.raises(InputError, match=r"SS111 minitron searches widths and depth"):
        make("minitron", {})


def test_tyr_is_its_published_schedule() -> None:
    assert SEARCHERS["tyr"].Options().model_dump() == {
        "offspring": 128,
        "survivors": [16, 4, 1],
        "tokens": [2048, 16384, 131072],
        "race": 0,
        "max_switches": 4,
        "generations": 50,
    }
