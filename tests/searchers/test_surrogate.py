"""The surrogate: what it learns, from how little, and when `auto` does without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from support import synthetic_space

from sparsesearch.arrays import Floats
from sparsesearch.searchers import Evaluation
from sparsesearch.searchers.auto.searcher import AutoSearcher
from sparsesearch.searchers.auto.surrogate import Measurements, Surrogate
from sparsesearch.searchers.exact.additive import predicted_harm
from sparsesearch.searchers.registry import create
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import random_genome


def drawn(space: Space, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([random_genome(space, rng).levels for _ in range(count)], dtype=np.int64)


def removed(space: Space, levels: np.ndarray) -> Floats:
    return np.stack([r[levels[:, u]] for u, r in enumerate(space.removed_fractions)], axis=1)


def quality(space: Space, levels: np.ndarray) -> Floats:
    """Not additive: blocks that are pruned together hurt more, and the first unit of each block most."""
    weight = np.where(np.arange(len(space.units)) % 5 == 0, 6.0, 1.0)
    squared: Floats = (removed(space, levels) ** 2) @ weight
    return squared + 0.2 * removed(space, levels).mean(axis=1) ** 2


def measured(space: Space, levels: np.ndarray, noise: float, seed: int = 0) -> Measurements:
    """Four draws, whose sequences differ much more than what noise adds to each measurement."""
    rng, count = np.random.default_rng(seed), len(levels)
    draw = np.arange(count) % 4
    values = quality(space, levels) * (1 + noise * rng.normal(size=count)) + np.array([0.0, 1.0, -0.8, 2.0])[draw]
    return Measurements(levels, values, draw, np.full(count, 4))


def squares(space: Space) -> list[Floats]:
    return [r**2 for r in space.removed_fractions]


def test_it_learns_what_units_do_although_draws_differ() -> None:
    space = synthetic_space(0, blocks=3)
    known, unseen = measured(space, drawn(space, 200, 0), 0.02), drawn(space, 200, 1)
    center = int(np.argsort(known.quality)[len(known.quality) // 2])
    truth, model = quality(space, unseen), Surrogate(space, squares(space), known, center)
    before = float(spearmanr(predicted_harm(squares(space), unseen), truth).statistic)
    after = float(spearmanr(model.predict(unseen), truth).statistic)
    assert 1 - after < 0.4 * (1 - before)
    # Levels differ by what the average draw adds, 0.55.
    assert np.median(model.predict(unseen) - truth) == pytest.approx(0.55, abs=0.3)


def test_a_table_is_what_predictions_say_of_single_changes() -> None:
    space = synthetic_space(1)
    known = measured(space, drawn(space, 60, 0), 0.01)
    model = Surrogate(space, squares(space), known, 0)
    center = known.levels[0]
    for unit, changes in enumerate(model.mean_table()):
        neighbours = np.repeat(center[None], len(changes), axis=0)
        neighbours[:, unit] = np.arange(len(changes))
        assert model.predict(neighbours) - model.predict(center[None]) == pytest.approx(changes)


def test_samples_surround_the_mean_and_narrow_as_more_is_known() -> None:
    space, spreads = synthetic_space(1), []
    for count in (20, 200):
        known = measured(space, drawn(space, count, 0), 0.05)
        model = Surrogate(space, squares(space), known, 0)
        tables = [np.concatenate(table) for table in model.sample_tables(400, np.random.default_rng(0))]
        mean, spread = np.mean(tables, axis=0), np.std(tables, axis=0)
        assert np.abs(mean - np.concatenate(model.mean_table())).max() < 5 * spread.max() / np.sqrt(400)
        spreads.append(spread.mean())
    assert spreads[1] < 0.6 * spreads[0]


def test_what_noise_does_not_explain_counts() -> None:
    space = synthetic_space(0, blocks=3)
    known = measured(space, drawn(space, 100, 0), 0.001)
    bad = known.quality.argmin()
    values = known.quality.copy()
    values[(known.levels == known.levels[bad]).all(axis=1)] += 5 * np.ptp(values)
    model = Surrogate(space, squares(space), replace(known, quality=values), int(np.median(np.arange(100))))
    at = {int(row): i for i, row in enumerate(model.rows)}
    assert model.estimates[at[int(bad)]] > np.median(model.estimates) + np.ptp(known.quality)


def test_what_is_measured_often_is_believed() -> None:
    """How much of what a genome is better by arrives in its estimate: a part after one measurement, all after forty."""
    space, arrived = synthetic_space(0, blocks=3), []
    levels = drawn(space, 150, 0)
    special = levels[quality(space, levels).argmin()]
    for times in (1, 40):
        known = measured(space, np.concatenate([levels, np.repeat(special[None], times, axis=0)]), 0.1)
        same = (known.levels == special).all(axis=1)
        change = np.where(same, 0.05, 0.0)
        models = [
            Surrogate(space, squares(space), replace(known, quality=known.quality - c), int(np.flatnonzero(same)[0]))
            for c in (0 * change, change)
        ]
        before, after = (m.estimates[(m.levels == special).all(axis=1)][0] for m in models)
        arrived.append((before - after) / 0.05)
    assert arrived[0] < 0.9
    assert arrived[1] == pytest.approx(1, abs=0.15)


def test_predictions_are_judged_within_draws() -> None:
    """Draws whose sequences are hard or easy say nothing of whether children are ranked right."""
    searcher = create("auto", synthetic_space(0, blocks=3, limits=("nonzeros<=70%",)), ["kl", "nonzeros"], 0, {})
    assert isinstance(searcher, AutoSearcher)
    draws, order = np.repeat([2, 3, 4], 4), np.random.default_rng(0).random(12)
    hard = np.array([0.0, 50.0, -20.0])[draws - 2]
    searcher._update_correlation(draws, np.array([order, order + hard]))
    assert searcher.correlation == pytest.approx(1)
    searcher.correlation = None
    searcher._update_correlation(draws, np.array([order + hard, -order + hard]))
    assert searcher.correlation == pytest.approx(-1)
    searcher.correlation = None
    searcher._update_correlation(np.arange(12), np.array([order, order]))
    assert searcher.correlation is None, "a child alone on its draw says nothing"


def test_auto_does_without_predictions_that_are_wrong() -> None:
    """Qualities that say nothing of levels: from some generation on all children are random moves."""
    space = synthetic_space(0, blocks=3, limits=("nonzeros<=70%",))
    searcher = create("auto", space, ["kl", "nonzeros"], 0, {})
    origins: list[set[str]] = []
    for _ in range(14):
        proposals = searcher.ask(1000)
        rng = np.random.default_rng(len(origins))
        origins.append({p.origin for p in proposals})
        searcher.tell(
            [
                Evaluation(
                    p.genome, 4, p.draw, p.origin, "ok", q, space.costs.named(p.genome.levels), (q,) * 4, role=p.role
                )
                for p, q in zip(proposals, rng.uniform(1, 2, len(proposals)).tolist(), strict=True)
            ]
        )
    assert "solution" in origins[2]
    assert any(each <= {"move", "again"} for each in origins[3:])
    assert searcher.report()["surrogate rank correlation"] < 0.6


def test_auto_chooses_what_it_measured_within_any_limits() -> None:
    space = synthetic_space(0, blocks=3)
    searcher = create("auto", space, ["kl", "nonzeros"], 0, {})
    assert searcher.best_within(space) is None
    assert searcher.finalists(5) == []
    for _ in range(3):
        searcher.tell(
            [
                Evaluation(
                    p.genome, 4, p.draw, p.origin, "ok", q, space.costs.named(p.genome.levels), (q,) * 4, role=p.role
                )
                for p in searcher.ask(1000)
                for q in quality(space, np.array([p.genome.levels], dtype=np.int64)).tolist()
            ]
        )
    assert searcher.best_within(space) == space.dense == Genome.of([0] * len(space.units))
    assert space.dense in searcher.finalists(5)
    assert len(searcher.finalists(5)) == 5
