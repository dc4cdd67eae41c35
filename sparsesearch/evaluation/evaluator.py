"""Measuring a genome on selection data: a loss for every sample, so that candidates can be compared in pairs."""

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
from sparsesearch.evaluation.targets import (
    Cosine,
    Distance,
    Errors,
    HiddenStates,
    NextToken,
    Targets,
    next_token_loss,
    outputs_of,
)
from sparsesearch.evaluation.teacher import SparseTeacher, Teacher
from sparsesearch.models.task import TASKS, Task
from sparsesearch.plugins import wrong_return_value
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet

QUALITIES: dict[str, type[Targets]] = {
    "kl": Teacher,
    "sparse_kl": SparseTeacher,
    "perplexity": NextToken,
    "error": Errors,
    "cosine": Cosine,
    "hidden": HiddenStates,
    "distance": Distance,
}


# Name of the objective that a function given from Python measures: (model, samples) -> loss, lower is better, of each
# sample or of all.
USER = "quality"
UserQuality = Callable[[Any, Samples], Any]


def quality_class(name: str) -> type[Targets]:
    """The class behind a quality; for the user's own, one that keeps nothing but the samples."""
    return QUALITIES.get(name, Targets)


class Evaluator:
    """Scores genomes of one supernet against what is kept of the dense model."""

    def __init__(
        self,
        supernet: StitchedSupernet,
        targets: Targets,
        task: Task,
        batch: int,
        norms: RunningStatistics | None = None,
        quality: UserQuality | None = None,
        prefixes: PrefixCache | None = None,
    ) -> None:
        """
        Args:
            batch: samples a forward pass.
            norms: corrects the statistics of batch normalisation of every candidate.
            quality: the user's own, in place of the targets' losses.
            prefixes: hidden states that candidates share; results are the same without.
        """
        self.supernet, self.targets, self.task, self.batch = supernet, targets, task, batch
        self.norms, self.quality, self.prefixes = norms, quality, prefixes
        self._ready: Genome | None = None

    def ready(self, genome: Genome) -> Any:
        """The network as the genome, with running statistics of its own."""
        if genome == self._ready:
            return self.supernet.model
        self._ready = None
        model = self.supernet.apply(genome)
        if self.norms is not None:
            self.norms.correct(model, genome)
        self._ready = genome
        return model

    def losses(self, genome: Genome, samples: Ints) -> Floats:
        """Loss of each of the samples, shape (samples,)."""
        prefixes = self.prefixes

        def shared(rows: Ints) -> AbstractContextManager[Any]:
            return prefixes.shared(genome, rows.tobytes()) if prefixes else nullcontext()

        return self._measured(self.ready(genome), samples, shared)

    def losses_of(self, model: Any, samples: Ints) -> Floats:
        """The same of a network of its own."""
        return self._measured(model, samples, lambda _: nullcontext())

    def _measured(
        self,
        model: Any,
        samples: Ints,
        shared: Callable[[Ints], AbstractContextManager[Any]],
    ) -> Floats:
        found = []
        for start in range(0, len(samples), self.batch):
            rows = samples[start : start + self.batch]
            # A user's function may run the network as often as it likes.
            with shared(rows) if self.quality is None else nullcontext():
                found.append(losses_on(model, self.targets, self.task, self.quality, rows))
        return np.concatenate(found)


def losses_on(model: Any, targets: Targets, task: Task, quality: UserQuality | None, rows: Ints) -> Floats:
    """A network's loss of each of a minibatch of the targets' samples, by a user's own quality where there is one."""
    given = targets.samples.rows(rows)
    if quality is not None:
        return _own_losses(quality(model, given), len(rows))
    found: Floats = targets.losses(outputs_of(model, task, given), rows).cpu().numpy()
    return found


def _own_losses(found: Any, count: int) -> Floats:
    """What a user's function returned, as a loss of each sample; raises InputError SS127 for anything else."""
    given = found.detach().cpu().double() if hasattr(found, "detach") else found
    try:
        values = np.asarray(given)
    except ValueError:  # rows of different lengths
        values = np.empty(0)
    if values.dtype.kind not in "biuf" or values.size not in (1, count):
        raise wrong_return_value("the function `quality`", found, f"a loss, or one of each of {count} samples")
    return np.broadcast_to(values.reshape(-1).astype(np.float64), count).copy()


@lru_cache(maxsize=256)
def minibatch(count: int, need: int, seed: int, draw: int) -> Ints:
    """Which samples of a pool a draw uses, in its order; smaller needs of the same draw are its prefixes (nested)."""
    chosen: Ints = np.random.default_rng([seed, draw]).permutation(count)[:need]
    chosen.setflags(write=False)
    return chosen


def quality_of(losses: Floats, quality: str) -> float:
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


def accuracy(model: Any, task: Task, samples: Samples, batch: int) -> float:
    """Share of samples whose largest output is the right class."""
    assert samples.labels is not None
    right = 0
    for start in range(0, len(samples), batch):
        rows = samples.rows(slice(start, start + batch))
        found = outputs_of(model, task, rows).mean(dim=1).argmax(dim=-1).cpu().numpy()
        right += int((found == rows.labels).sum())
    return right / len(samples)
