"""The training of one candidate, from one token count to the next.

The result at each token count is a file, so that nothing is trained twice if a worker or the controller dies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparsesearch.engine.workers.call_results import (
    DivergedTraining,
    Trained,
    TrainingResult,
    training_json,
    training_result,
)
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import DamagedFile
from sparsesearch.files import read_json, write_json
from sparsesearch.space import Genome
from sparsesearch.training.loop import tokens_of
from sparsesearch.training.trainer import CHECKPOINT, weights_path


@dataclass(frozen=True)
class Trial:
    """A candidate to train.

    Attributes:
        genome: genome of the candidate.
        tokens: token counts at which it is measured, rising; it is trained to the last.
        schedule_tokens: tokens that its learning-rate schedule spans.
        directory: directory of its checkpoint and results.
        expected_quality: quality of a candidate of its size; its scores are relative to this.
        start: file of the weights that training starts from; those of the supernet if None.
    """

    genome: Genome
    tokens: tuple[int, ...]
    schedule_tokens: int
    directory: Path
    expected_quality: float = 1.0
    start: Path | None = None

    def result_path(self, tokens: int) -> Path:
        return self.directory / f"{tokens}.json"

    def result(self, tokens: int) -> TrainingResult | None:
        """Return the result at a token count; None if there is none, or its files are gone or damaged."""
        try:
            result = training_result(read_json(self.result_path(tokens)))
        except (DamagedFile, TypeError):
            return None
        return result if isinstance(result, DivergedTraining) or weights_path(self.directory, tokens).exists() else None

    @property
    def trained(self) -> int:
        """Tokens that it has been trained on so far, by its files."""
        finished = max((tokens for tokens in self.tokens if self.result_path(tokens).exists()), default=0)
        return max(finished, tokens_of(self.directory / CHECKPOINT))


# Called with each training that has ended: the trial, its token count and result.
TrainingCallback = Callable[[Trial, int, TrainingResult], None]


def climb(worker: Worker, trial: Trial, tokens: int, saved: Callable[[], None]) -> TrainingResult:
    """Train a candidate to one of its token counts, or return the result if it is on disk.

    Args:
        saved: called after each checkpoint on the way.
    """
    finished = trial.result(tokens)
    if finished is not None:
        return finished
    result = worker.train(trial.genome.data, tokens, trial.schedule_tokens, trial.directory, trial.start, saved)
    write_json(trial.result_path(tokens), training_json(result))
    return result


def score(result: TrainingResult, trial: Trial) -> float:
    """Return the number that a scheduler compares trials of all sizes by: lower is better, infinite if it diverged."""
    if not isinstance(result, Trained) or not result.losses:
        return float("inf")
    # A user's own quality may be negative.
    expected = trial.expected_quality
    return (sum(result.losses) / len(result.losses) - expected) / max(abs(expected), 1e-12)
