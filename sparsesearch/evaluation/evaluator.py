"""Measurement of genomes on selection data: a loss for every sample, so that candidates can be compared in pairs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsesearch.arrays import Floats, Ints
from sparsesearch.data.samples import Samples
from sparsesearch.evaluation.batchnorm import RunningStatistics
from sparsesearch.evaluation.prefix_cache import PrefixCache
from sparsesearch.evaluation.qualities import quality_class
from sparsesearch.evaluation.targets import Targets, next_token_loss, outputs_of
from sparsesearch.models.task import TASKS, Task
from sparsesearch.plugins import wrong_return_value
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet

UserQuality = Callable[[Any, Samples], Any]


class Evaluator:
    """Measures losses of one supernet's genomes against stored outputs of the dense model."""

    def __init__(
        self,
        supernet: StitchedSupernet,
        targets: Targets,
        task: Task,
        batch: int,
        running_statistics: RunningStatistics | None = None,
        quality: UserQuality | None = None,
        prefixes: PrefixCache | None = None,
    ) -> None:
        """
        Args:
            supernet: turns the network into candidates.
            targets: stored outputs of the dense model, and the loss.
            task: the model's task.
            batch: samples of a forward pass.
            running_statistics: corrects the running statistics of batch normalisation of every candidate.
            quality: a user's function that replaces the targets' losses.
            prefixes: cache of hidden states that candidates share; it does not change results.
        """
        self.supernet, self.targets, self.task, self.batch = supernet, targets, task, batch
        self.running_statistics, self.quality, self.prefixes = running_statistics, quality, prefixes
        self._prepared: Genome | None = None

    def prepare(self, genome: Genome) -> Any:
        """Return the network with the genome's weights and corrected running statistics."""
        if genome == self._prepared:
            return self.supernet.model
        self._prepared = None
        model = self.supernet.apply(genome)
        if self.running_statistics is not None:
            self.running_statistics.correct(model, genome)
        self._prepared = genome
        return model

    def losses(self, genome: Genome, samples: Ints) -> Floats:
        """Return a genome's loss of each sample of the given indices, (samples,) -> (samples,)."""
        prefixes = self.prefixes

        def share(rows: Ints) -> AbstractContextManager[Any]:
            return prefixes.share(genome, rows.tobytes()) if prefixes else nullcontext()

        return self._minibatch_losses(self.prepare(genome), samples, share)

    def losses_of(self, model: Any, samples: Ints) -> Floats:
        """Return another network's loss of each sample of the given indices, (samples,) -> (samples,)."""
        return self._minibatch_losses(model, samples, lambda _: nullcontext())

    def _minibatch_losses(
        self,
        model: Any,
        samples: Ints,
        share: Callable[[Ints], AbstractContextManager[Any]],
    ) -> Floats:
        losses = []
        for start in range(0, len(samples), self.batch):
            rows = samples[start : start + self.batch]
            # A user's function may run the network any number of times.
            with share(rows) if self.quality is None else nullcontext():
                losses.append(losses_on(model, self.targets, self.task, self.quality, rows))
        return np.concatenate(losses)


def losses_on(model: Any, targets: Targets, task: Task, quality: UserQuality | None, rows: Ints) -> Floats:
    """Return a network's loss of each sample of a minibatch, (rows,), by the user's quality if there is one.

    Args:
        rows: indices of the targets' samples, (rows,).
    """
    samples = targets.samples.rows(rows)
    if quality is not None:
        return _user_losses(quality(model, samples), len(rows))
    return np.asarray(targets.losses(outputs_of(model, task, samples), rows).cpu().numpy())


def _user_losses(result: Any, count: int) -> Floats:
    """Return a user function's result as a loss of each sample, (count,); raises InputError SS127 for other results."""
    detached = result.detach().cpu().double() if hasattr(result, "detach") else result
    try:
        values = np.asarray(detached)
    except ValueError:  # rows of different lengths
        values = np.empty(0)
    if values.dtype.kind not in "biuf" or values.size not in (1, count):
        raise wrong_return_value("the function `quality`", result, f"a loss, or one of each of {count} samples")
    return np.broadcast_to(values.reshape(-1).astype(np.float64), count).copy()


@lru_cache(maxsize=256)
def minibatch(count: int, need: int, seed: int, draw: int) -> Ints:
    """Return the indices of a draw's samples in its order, (need,), read-only; smaller needs are prefixes (nested).

    Args:
        count: samples of the pool.
        need: samples to draw.
        seed, draw: random seed, and number of the draw.
    """
    rows: Ints = np.random.default_rng([seed, draw]).permutation(count)[:need]
    rows.setflags(write=False)
    return rows


def quality_of(losses: Floats, quality: str) -> float:
    """Return the objective that losses (samples,) amount to; raises InputError SS102 for an unknown quality."""
    return quality_class(quality).objective(losses)


def perplexity(
    model: Any, tokens: npt.NDArray[Any], batch: int, progress: Callable[[int], None] | None = None
) -> float:
    """Return exp of the mean next-token loss within windows; the first token of a window is not predicted.

    Args:
        tokens: windows, (sequences, length).
        batch: windows of a forward pass.
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


def accuracy(model: Any, task: Task, samples: Samples, batch: int) -> float:
    """Return the share of samples whose largest output is the right class, in [0, 1]."""
    assert samples.labels is not None
    right = 0
    for start in range(0, len(samples), batch):
        rows = samples.rows(slice(start, start + batch))
        classes = outputs_of(model, task, rows).mean(dim=1).argmax(dim=-1).cpu().numpy()
        right += int((classes == rows.labels).sum())
    return right / len(samples)
