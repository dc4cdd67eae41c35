"""The training of one candidate, from one token count to the next.

What it ends with at each is a file of its own, so that nothing that was paid for is lost whoever dies, and a controller
that comes back finds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        genome: of the candidate.
        tokens: at which it is measured, rising; it is trained to the last.
        whole: tokens that its learning-rate schedule is made for.
        directory: of its checkpoint and results.
        yardstick: the quality that its scores are relative to: what is expected of a candidate of its size.
        start: weights that training begins with; those of the supernet where None.
    """

    genome: Genome
    tokens: tuple[int, ...]
    whole: int
    directory: Path
    yardstick: float = 1.0
    start: Path | None = None

    def result_path(self, tokens: int) -> Path:
        return self.directory / f"{tokens}.json"

    def result(self, tokens: int) -> dict[str, Any] | None:
        """What a rung ended with; None if it has not, or if what it ended with is gone or damaged."""
        try:
            found = read_json(self.result_path(tokens))
        except DamagedFile:
            return None
        return found if "diverged" in found or weights_path(self.directory, tokens).exists() else None

    @property
    def trained(self) -> int:
        """Tokens that it has been trained on so far, by its files."""
        done = max((at for at in self.tokens if self.result_path(at).exists()), default=0)
        return max(done, tokens_of(self.directory / CHECKPOINT))


# Told of each training that has ended: the trial, its token count, and what it ended with.
Ended = Callable[[Trial, int, dict[str, Any]], None]


def climb(worker: Worker, trial: Trial, tokens: int, tell: Callable[[], None]) -> dict[str, Any]:
    """Train a candidate to one of its token counts, unless that is done already; tells of checkpoints on the way."""
    done = trial.result(tokens)
    if done is not None:
        return done
    found = worker.train(trial.genome.data, tokens, trial.whole, trial.directory, trial.start, tell)
    write_json(trial.result_path(tokens), found)
    return found


def score(found: dict[str, Any], trial: Trial) -> float:
    """The scalar that a scheduler compares trials of all sizes by, lower is better; infinite where it diverged."""
    losses: list[float] = found.get("losses", [])
    if not losses:
        return float("inf")
    # A quality of the user's own may be negative.
    return (sum(losses) / len(losses) - trial.yardstick) / max(abs(trial.yardstick), 1e-12)
