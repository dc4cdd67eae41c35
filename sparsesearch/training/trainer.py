"""Short training runs of candidates, resumed from their checkpoints and measured on selection data."""

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
from sparsesearch.training.trainee import METHODS, make_trainee

CHECKPOINT = "checkpoint"
# Hint for a damaged file of weights.
RETRAIN = "Delete it, then resume: the candidate is trained again."
State = dict[str, torch.Tensor]


def weights_path(directory: Path, tokens: int) -> Path:
    """Return the path of a candidate's weights after `tokens` training tokens."""
    return directory / f"{tokens}.safetensors"


def round_to_storage(state: State, storage: torch.dtype) -> State:
    """Round a state's values to the type it is stored in, so that the measured weights equal the exported ones."""
    return {name: t.to(storage).to(t.dtype) if t.is_floating_point() else t for name, t in state.items()}


class CandidateTrainer:
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
            evaluator: holds the supernet and measures candidates.
            samples: training data.
            compute, storage: data types of the arithmetic, and of the weights that are written at the end.
            teacher: network that is distilled; None: the dense one.
        """
        self.evaluator, self.samples, self.options = evaluator, samples, options
        self.compute, self.storage = compute, storage
        supernet = self.supernet = evaluator.supernet
        self._uses_gradients = METHODS[options.method].uses_gradients
        needs_dense = options.distill or options.hidden or not self._uses_gradients
        self._dense = supernet.materialise(supernet.space.dense).float() if needs_dense else None
        self._teacher = self._dense if teacher is None or self._dense is None else teacher.float()

    @property
    def network(self) -> Network:
        """The description of the supernet's network."""
        return self.supernet.network

    def train(
        self,
        genome: Genome,
        tokens: int,
        schedule_tokens: int,
        directory: Path,
        start: Path | None,
        on_checkpoint: Callable[[], None],
    ) -> dict[str, Any]:
        """Train a candidate to `tokens`, from its checkpoint if it has one, and measure it.

        Args:
            tokens: training tokens in total, including those of earlier calls.
            schedule_tokens: tokens of the whole learning-rate schedule.
            directory: the candidate's directory; its checkpoints and, at the end, its weights are written there.
            start: file of the weights that training begins with; None: those of the supernet.
            on_checkpoint: called after each checkpoint on the way.

        Returns:
            `losses` on all selection samples, `tokens` consumed since the last call's target, `trained` tokens in
            total, `seconds` of this call; or `diverged`, the reason, with `tokens` and `seconds`.
        """
        started, length = time.monotonic(), self.samples.length
        if not self._uses_gradients:
            model, used = self._compensate(genome, tokens, start)
            measured = self._write_and_measure(model, weights_path(directory, tokens))
            return measured | {"tokens": used, "trained": used, "seconds": time.monotonic() - started}
        run = self._run(genome, schedule_tokens, start)
        run.load(directory / CHECKPOINT)
        try:
            run.run_saving(steps_of(tokens, self.options, length), directory / CHECKPOINT, on_checkpoint)
        except Diverged as error:
            return {"diverged": str(error), "tokens": run.segment_tokens, "seconds": time.monotonic() - started}
        measured = self._write_and_measure(run.trainee.merge().eval(), weights_path(directory, tokens))
        spent = {"tokens": run.segment_tokens, "trained": run.tokens, "seconds": time.monotonic() - started}
        return measured | spent

    def _write_and_measure(self, model: Any, path: Path) -> dict[str, Any]:
        """Write a trained network's weights and measure the network with the weights as written."""
        state = {name: tensor.contiguous() for name, tensor in round_to_storage(state_of(model), self.storage).items()}
        load_exactly(model, state)
        write_tensors(path, state, durable=True)
        return {"losses": self.losses(model)}

    def _compensate(self, genome: Genome, tokens: int, start: Path | None = None) -> tuple[Any, int]:
        """Return a candidate with compensated biases and batch statistics, and the tokens used for it."""
        model = self._model(genome, start).float()
        samples = self.samples.rows(slice(0, tokens // self.samples.length))
        compensate(model, self._dense, self.network, samples, self.evaluator.batch)
        return model.eval(), samples.size

    def train_and_score(self, genome: Genome, tokens: int, rows: Ints) -> list[float]:
        """Train a candidate from the supernet's weights and return its losses, writing nothing; raises Diverged.

        Args:
            rows: rows of selection samples, (samples,).
        """
        if not self._uses_gradients:
            return self.losses(self._compensate(genome, tokens)[0], rows)
        run = self._run(genome, tokens)
        run.run(run.steps)
        return self.losses(run.trainee.merge().eval(), rows)

    def _model(self, genome: Genome, start: Path | None) -> Any:
        """Return a candidate with the weights that training begins with, and the batch statistics it is judged with."""
        if start is None:
            model = self.supernet.materialise(genome)
            if self.evaluator.running_statistics is not None:
                self.evaluator.running_statistics.correct(model, genome)
            return model
        with self.supernet.with_trained_weights(genome, read_tensors(start, RETRAIN)):
            return self.supernet.materialise(genome)

    def _run(self, genome: Genome, schedule_tokens: int, start: Path | None = None) -> TrainingRun:
        model, steps = self._model(genome, start), steps_of(schedule_tokens, self.options, self.samples.length)
        objective = Objective(self.network, self._teacher, self.options)
        trainee = make_trainee(model, self.network, self.options)
        return TrainingRun(trainee, objective, self.samples, self.options, steps, self.compute)

    def losses(self, model: Any, rows: Ints | None = None) -> list[float]:
        """Return the losses of a network on selection samples; `rows` (samples,) selects some, None all."""
        if rows is None:
            rows = np.arange(len(self.evaluator.targets.samples))
        losses: list[float] = self.evaluator.losses_of(model, rows).tolist()
        return losses
