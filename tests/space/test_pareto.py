"""Dominance, hypervolume and picks against brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsesearch import pareto
from sparsesearch.errors import InputError

tables = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(tables)
def test_non_dominated_equals_brute_force(points: list[tuple[int, int]]) -> None:
    def dominated(p: tuple[int, int]) -> bool:
        return any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)

    assert pareto.non_dominated(points).tolist() == [i for i, p in enumerate(points) if not dominated(p)]


@given(tables)
def test_hypervolume_equals_counting_unit_squares(points: list[tuple[int, int]]) -> None:
    squares = {(x, y) for a, b in points for x in range(a, 7) for y in range(b, 7)}
    assert pareto.hypervolume(points, [7, 7]) == pytest.approx(len(squares))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 1, 2])
def test_non_finite_rows_never_reach_the_front(bad: float, row: int) -> None:
    points = [[1.0, 2.0], [2.0, 1.0]]
    points.insert(row, [bad, 0.0])
    assert row not in pareto.non_dominated(points)
    assert len(pareto.non_dominated(points)) == 2
    assert pareto.hypervolume(points, [3, 3]) == pytest.approx(3.0)


def test_spread_keeps_the_ends_and_the_count() -> None:
    x = np.linspace(0, 1, 50)
    chosen = pareto.spread(np.stack([x, 1 - x], axis=1), 7)
    assert len(chosen) == 7
    assert {0, 49} <= set(chosen.tolist())


def test_knee_of_a_bent_line_is_the_bend() -> None:
    points = [[i / 10, 1 - i / 10 * 0.95 / 0.2] for i in range(3)] + [
        [0.2 + i / 10, 0.05 - i / 200] for i in range(1, 9)
    ]
    assert np.allclose(points[pareto.knee(points)], [0.2, 0.05])


DENSE = {"params": 100}
ROWS = [{"kl": 1.0, "params": 20.0}, {"kl": 0.4, "params": 50.0}, {"kl": 0.1, "params": 90.0}]


@pytest.mark.parametrize(
    ("rule", "index"),
    [
        ("min:kl", 2),
        ("min:params", 0),
        ("max-under:params=60%", 1),
        ("max-under:params<=25", 0),
        ("weights:kl=1,params=0", 2),
        ("weights:kl=.01,params=1", 0),
    ],
)
def test_picks(rule: str, index: int) -> None:
    assert pareto.pick(rule, ROWS, dict, ["kl", "params"], DENSE) is ROWS[index]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("max-under:params=10%", "no candidate with params<=10%. Smallest on the front is 20"),
        ("best", "not understood"),
        ("min:speed", "known are kl, params"),
        ("weights:kl", "not of the form name=number"),
    ],
)
def test_picks_that_do_not_exist(rule: str, words: str) -> None:
    with pytest.raises(InputError, match="SS501") as caught:
        pareto.pick(rule, ROWS, dict, ["kl", "params"], DENSE)
    assert words in str(caught.value)
