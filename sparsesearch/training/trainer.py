"""Short training runs of candidates, each from where its last one ended, judged on selection data."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparsesearch.arrays import Ints
from sparsesearch.config import TrainingConfig
from sparsesearch.data.samples import Samples
from sparsesearch.evaluation import Evaluator
from sparsesearch.models.network import Network
from sparsesearch.space import Genome
from sparsesearch.supernet.stitched import load_exactly, state_of
from sparsesearch.tensors import read_tensors, write_tensors
from sparsesearch.training.compensation import compensate
from sparsesearch.training.loop import Diverged, TrainingRun, steps_of
from sparsesearch.training.objective import Objective
from sparsesearch.training.trainee import METHODS, trainee

CHECKPOINT = "checkpoint"
# What to do about a damaged file of weights.
RETRAIN = "Delete it, then resume: the candidate is trained again."
State = dict[str, torch.Tensor]


def weights_path(directory: Path, tokens: int) -> Path:
    """Where a candidate's weights after so many tokens of training lie."""
    return directory / f"{tokens}.safetensors"


def rounded(state: State, storage: torch.dtype) -> State:
    """A state as a file of another type will hold it, so that what is judged is what is exported."""
    return {name: t.to(storage).to(t.dtype) if t.is_floating_point() else t for name, t in state.items()}


class Trials:
    """Trains candidates of one supernet, one after another."""

    def __init__(
        self,
        evaluator: Evaluator,
        samples: Samples,
        options: TrainingConfig,
        compute: torch.dtype,
        storage: torch.dtype,
        teacher: Any = None,
    ) -> None:
        """
        Args:
            evaluator: of the supernet; judges candidates.
            samples: training data.
            compute, storage: types of the arithmetic, and of the weights that are written in the end.
            teacher: the network that is distilled; the dense one where None.
        """
        self.evaluator, self.samples, self.options = evaluator, samples, options
        self.compute, self.storage = compute, storage
        supernet = self.supernet = evaluator.supernet
        self._uses_gradients = METHODS[options.method].uses_gradients
        wants = options.distill or options.hidden or not self._uses_gradients
        self._dense = supernet.materialise(supernet.space.dense).float() if wants else None
        self._teacher = self._dense if teacher is None or self._dense is None else teacher.float()

    @property
    def network(self) -> Network:
        return self.supernet.network

    def train(
        self, genome: Genome, tokens: int, whole: int, directory: Path, start: Path | None, tell: Callable[[], None]
    ) -> dict[str, Any]:
        """Train a candidate to `tokens`, from its checkpoint where it has one, and measure it.

        Args:
            tokens: in all, those of earlier calls among them.
            whole: tokens that the learning-rate schedule is made for.
            directory: the candidate's own; its checkpoints and, at the end, its weights are written there.
            start: weights that training begins with; those of the supernet where None.
            tell: called after each checkpoint on the way.

        Returns:
            `losses` on all selection samples, `tokens` consumed since the last count was reached, `trained` in all,
            `seconds` of this call; or `diverged`, why it ended.
        """
        started, length = time.monotonic(), self.samples.length
        if not self._uses_gradients:
            model, used = self._compensated(genome, tokens, start)
            found = self._kept(model, weights_path(directory, tokens))
            return found | {"tokens": used, "trained": used, "seconds": time.monotonic() - started}
        run = self._run(genome, whole, start)
        run.load(directory / CHECKPOINT)
        try:
            run.run_saving(steps_of(tokens, self.options, length), directory / CHECKPOINT, tell)
        except Diverged as error:
            return {"diverged": str(error), "tokens": run.stretch, "seconds": time.monotonic() - started}
        found = self._kept(run.trained.merged().eval(), weights_path(directory, tokens))
        spent = {"tokens": run.stretch, "trained": run.tokens, "seconds": time.monotonic() - started}
        return found | spent

    def _kept(self, model: Any, path: Path) -> dict[str, Any]:
        """Write a network that is done, and measure it as it is written."""
        state = {name: tensor.contiguous() for name, tensor in rounded(state_of(model), self.storage).items()}
        load_exactly(model, state)
        write_tensors(path, state, durable=True)
        return {"losses": self.losses(model)}

    def _compensated(self, genome: Genome, tokens: int, start: Path | None = None) -> tuple[Any, int]:
        """A candidate whose biases and batch statistics make up for what pruning took, and the tokens that took."""
        model = self._model(genome, start).float()
        samples = self.samples.rows(slice(0, tokens // self.samples.length))
        compensate(model, self._dense, self.network, samples, self.evaluator.batch)
        return model.eval(), samples.size

    def shortly(self, genome: Genome, tokens: int, rows: Ints) -> list[float]:
        """Train a candidate from the supernet's weights and measure it, keeping nothing; raises Diverged.

        Args:
            rows: selection samples, (samples,).
        """
        if not self._uses_gradients:
            return self.losses(self._compensated(genome, tokens)[0], rows)
        run = self._run(genome, tokens)
        run.run(run.steps)
        return self.losses(run.trained.merged().eval(), rows)

    def _model(self, genome: Genome, start: Path | None) -> Any:
        """A candidate with the weights that training begins with, and batch statistics as it is judged with."""
        if start is None:
            model = self.supernet.materialise(genome)
            if self.evaluator.norms is not None:
                self.evaluator.norms.correct(model, genome)
            return model
        self.supernet.trained[genome] = read_tensors(start, RETRAIN)
        try:
            return self.supernet.materialise(genome)
        finally:
            del self.supernet.trained[genome]

    def _run(self, genome: Genome, whole: int, start: Path | None = None) -> TrainingRun:
        model, steps = self._model(genome, start), steps_of(whole, self.options, self.samples.length)
        objective = Objective(self.network, self._teacher, self.options)
        trained = trainee(model, self.network, self.options)
        return TrainingRun(trained, objective, self.samples, self.options, steps, self.compute)

    def losses(self, model: Any, rows: Ints | None = None) -> list[float]:
        """Of a network on selection samples, all where none are named."""
        wanted = np.arange(len(self.evaluator.targets.samples)) if rows is None else rows
        found: list[float] = self.evaluator.losses_of(model, wanted).tolist()
        return found
