"""The interface between runs and trackers."""

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
    """Takes points of one run.

    Attributes:
        location: where the run can be viewed, with the command that shows it.
    """

    location: str

    @abstractmethod
    def __init__(self, results: RunResults) -> None:
        """Start a new record of a run; replaces an earlier record of the same run, if the tracker can do that."""

    @abstractmethod
    def log(self, points: Sequence[Point]) -> None:
        """Log points; the steps of each name must rise."""

    @abstractmethod
    def close(self) -> None:
        """Write points that are not written yet."""


def settings_of(results: RunResults) -> dict[str, Any]:
    """Return the settings of a run, for trackers that show them."""
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
