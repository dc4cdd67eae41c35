"""Results of calls to workers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    """A candidate that was measured.

    Attributes:
        losses: one for each requested sequence, in that order.
    """

    losses: list[float]


@dataclass(frozen=True)
class Failed:
    """A candidate that could not be measured.

    Attributes:
        error: type and message of the exception, or how the worker died.
        traceback: traceback of the exception, as Python prints it; empty if the worker died.
    """

    error: str
    traceback: str = ""


@dataclass(frozen=True)
class Trained:
    """A candidate that was trained to a token count.

    Attributes:
        losses: losses on all selection samples.
        tokens: tokens consumed since the previous token count.
        trained: tokens consumed in all.
        seconds: duration of the call.
    """

    losses: list[float]
    tokens: int
    trained: int
    seconds: float


@dataclass(frozen=True)
class DivergedTraining:
    """A candidate whose training ended without a usable result.

    Attributes:
        diverged: the reason.
        tokens, seconds: as for `Trained`.
    """

    diverged: str
    tokens: int
    seconds: float

    trained = 0


TrainingResult = Trained | DivergedTraining


def training_json(result: TrainingResult) -> dict[str, Any]:
    """Return the content of a trial's result file."""
    return asdict(result)


def training_result(data: dict[str, Any]) -> TrainingResult:
    """Return the result from the content of its file; raises TypeError for other content."""
    kind: type[TrainingResult] = DivergedTraining if "diverged" in data else Trained
    return kind(**data)
