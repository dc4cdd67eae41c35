"""Measuring a genome on selection data: a loss for every sample, so that candidates can be compared in pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsesearch.calibration.samples import Samples
from sparsesearch.evaluation.targets import (
    Cosine,
    Errors,
    HiddenStates,
    NextToken,
    Targets,
    next_token_loss,
    outputs_of,
)
from sparsesearch.evaluation.teacher import Teacher
from sparsesearch.models.task import TASKS, Task
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet

QUALITIES: dict[str, type[Targets]] = {
    "kl": Teacher, "perplexity": NextToken, "error": Errors, "cosine": Cosine, "hidden": HiddenStates,
}  # fmt: skip


class Evaluator:
    """Scores genomes of one supernet against what is kept of the dense model."""

    def __init__(self, supernet: StitchedSupernet, targets: Targets, task: Task, batch: int) -> None:
        self.supernet, self.targets, self.task, self.batch = supernet, targets, task, batch

    def losses(self, genome: Genome, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Loss of each of the samples, shape (samples,)."""
        model = self.supernet.apply(genome)
        found = []
        for start in range(0, len(samples), self.batch):
            rows = samples[start : start + self.batch]
            outputs = outputs_of(model, self.task, self.targets.samples.rows(rows))
            found.append(self.targets.losses(outputs, rows).cpu().numpy())
        return np.concatenate(found)


def minibatch(count: int, need: int, seed: int, draw: int) -> npt.NDArray[np.int64]:
    """Which samples of a pool a draw uses; smaller needs of the same draw are its prefixes (nested)."""
    order = np.random.default_rng([seed, draw]).permutation(count)
    return np.sort(order[:need])


def quality_of(losses: npt.NDArray[np.float64], quality: str) -> float:
    """The objective that losses of samples amount to."""
    mean = float(np.mean(losses))
    return float(np.exp(mean)) if quality == "perplexity" else mean


def perplexity(
    model: Any, tokens: npt.NDArray[Any], batch: int, progress: Callable[[int], None] | None = None
) -> float:
    """exp of the mean next-token loss within windows (sequences, length); the first token of a window is given.

    Args:
        progress: called with the number of windows done.
    """
    total = 0.0
    for start in range(0, len(tokens), batch):
        window = tokens[start : start + batch]
        outputs = outputs_of(model, TASKS["causal"], Samples({"input_ids": window}))
        total += float(next_token_loss(outputs, window).sum())
        if progress is not None:
            progress(start + len(window))
    return float(np.exp(total / (len(tokens) * (tokens.shape[1] - 1))))


def accuracy(
    model: Any, task: Task, samples: Samples, batch: int, progress: Callable[[int], None] | None = None
) -> float:
    """Share of samples whose largest output is the right class."""
    assert samples.labels is not None
    right = 0
    for start in range(0, len(samples), batch):
        rows = samples.rows(slice(start, start + batch))
        found = outputs_of(model, task, rows).mean(dim=1).argmax(dim=-1).cpu().numpy()
        right += int((found == rows.labels).sum())
    return right / len(samples)
