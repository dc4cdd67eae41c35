"""The seam between runs and trackers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sparsesearch.config import load_config
from sparsesearch.runs.results import RunResults


@dataclass(frozen=True)
class Point:
    """Values by name after `step` evaluations."""

    step: int
    values: dict[str, float]


class Tracker(ABC):
    """Takes points of one run; `place` says where they are to be seen."""

    place: str

    @abstractmethod
    def __init__(self, results: RunResults) -> None:
        """Begin anew: what the same run had left in this tracker before is replaced, where the tracker can do that."""

    @abstractmethod
    def log(self, points: Sequence[Point]) -> None:
        """Take in points; the steps of each name rise."""

    @abstractmethod
    def close(self) -> None:
        """Write what is still held back."""


def settings_of(results: RunResults) -> dict[str, Any]:
    """What a run was started with, for trackers that show settings."""
    config = load_config(results.run.config)
    return {
        "model": results.info["model"],
        "searcher": config.search.searcher,
        "objectives": ", ".join(results.objectives),
        "limits": ", ".join(b.text for b in results.space.bounds) or "none",
        "units": len(results.space.units),
        "seed": config.search.seed,
        "evals": config.search.evals,
        "tokens": config.search.tokens,
    }
