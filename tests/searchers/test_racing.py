"""Races: how often they are wrong, and what they save."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsesearch.searchers.evolutionary.racing import losers, rungs


def race(rng: np.random.Generator, means: np.ndarray, keep: int, confidence: float) -> tuple[np.ndarray, int]:
    """Who is left of candidates whose losses share a large part of their noise, and the sequences measured."""
    shared, individual = rng.normal(0, 1.0, 64), rng.normal(0, 0.1, (len(means), 64))
    losses = means[:, None] + shared + individual
    survivors, spent, test_sizes = np.arange(len(means)), 0, [8, 16, 32, 64]
    previous = 0
    for sequences in test_sizes:
        spent += len(survivors) * (sequences - previous)
        previous = sequences
        survivors = survivors[~losers(losses[survivors][:, :sequences], keep, confidence, len(test_sizes))]
    return survivors, spent


@pytest.mark.parametrize("keep", [1, 4])
def test_the_best_are_rarely_lost(keep: int) -> None:
    """The hardest case: all are equal, so that every elimination of one of the first is an error."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        means = np.zeros(16)
        alive, _ = race(rng, means, keep, 0.9)
        wrong += not set(range(keep)) <= set(alive.tolist())
    assert wrong / 400 <= 0.1


def test_a_race_saves_most_of_the_work_and_finds_the_best() -> None:
    rng, right, spent = np.random.default_rng(1), 0, 0
    for _ in range(100):
        means = rng.permutation(np.linspace(0, 1.5, 16))
        alive, cost = race(rng, means, 1, 0.95)
        right += int(np.argmin(means)) in alive
        spent += cost
    assert right >= 95
    assert spent < 0.35 * 100 * 16 * 64


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 12))
def test_at_least_as_many_as_wanted_survive(seed: int, keep: int, sequences: int) -> None:
    losses = np.random.default_rng(seed).normal(size=(6, sequences)) * np.arange(1, 7)[:, None]
    lost = losers(losses, keep, 0.5, 1)
    assert (~lost).sum() >= keep
    assert not lost[np.argsort(losses.mean(axis=1))[:keep]].any()


def test_equal_candidates_all_stay() -> None:
    losses = np.tile(np.random.default_rng(0).normal(size=20), (5, 1))
    assert not losers(losses, 1, 0.5, 1).any()


def test_rungs_double_and_end_where_they_should() -> None:
    assert rungs(512, 4096) == [512, 1024, 2048, 4096]
    assert rungs(512, 3000) == [512, 1024, 2048, 3000]
    assert rungs(512, 512) == [512]
