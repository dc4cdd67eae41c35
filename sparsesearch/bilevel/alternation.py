"""The alternation of all methods: steps on weights, a step on the choice, projection; one cost target after another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from sparsesearch.bilevel.base import CostTarget, Learner, State, StepState, gradients_of
from sparsesearch.config import TrainingConfig
from sparsesearch.data.samples import Samples
from sparsesearch.evaluation.batchnorm import batch_norms
from sparsesearch.searchers.learned.base import LearnedSearcher
from sparsesearch.training.loop import (
    CHECKPOINT_TIME_FACTOR,
    learning_rate_at,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from sparsesearch.training.order import rows_at

STATE, OPTIMIZERS = "state.safetensors", ("weights.safetensors", "choice.safetensors", "multipliers.safetensors")
# The loss, a scalar, of a network that runs with the given tensors instead of its own.
Loss = Callable[[dict[str, torch.Tensor], Samples], torch.Tensor]


class Batches:
    """Minibatches of training data; disjoint for steps on weights and on the choice if weights have their own steps.

    Attributes:
        tokens_per_step: gradient tokens of a step on the choice and the steps on weights before it.
    """

    def __init__(self, samples: Samples, options: LearnedSearcher.Options, batch: int, seed: int) -> None:
        """
        Args:
            batch: samples per minibatch if the options do not set it.
        """
        self.seed, self._weight_steps = seed, options.lower
        self._batch: int = options.batch or batch
        self._weight_samples, self._choice_samples = split(samples, options.upper if options.lower else 0.0, seed)
        self.tokens_per_step: int = (options.lower + 1) * self._batch * samples.length

    def for_weights(self, step: int, number: int) -> Samples:
        """Return the minibatch of one of the steps on weights before a step on the choice."""
        rows = rows_at(step * self._weight_steps + number, self._batch, len(self._weight_samples), self.seed)
        return self._weight_samples.rows(rows)

    def for_choice(self, step: int) -> Samples:
        """Return the minibatch of a step on the choice."""
        seed = self.seed + 1 if self._weight_steps else self.seed
        return self._choice_samples.rows(rows_at(step, self._batch, len(self._choice_samples), seed))


class Optimizers:
    """The optimizers of one cost target: of weights, of the choice, and of multipliers (by ascent)."""

    def __init__(self, learner: Learner, training: TrainingConfig) -> None:
        weights, parameters, multipliers = learner.relaxed.weights.parameters, learner.parameters, learner.multipliers
        self.weights = make_optimizer(list(weights.values()), training) if weights else None
        choice = learner.optimizer(list(parameters.values())) if parameters else None
        ascent = None
        if multipliers:
            ascent = torch.optim.SGD(list(multipliers.values()), lr=learner.options.multiplier_rate, maximize=True)
        self._choice = [(choice, parameters), (ascent, multipliers)]

    def step_choice(self, gradients: State) -> None:
        """Step the choice, then the multipliers; gradients by name."""
        for optimizer, tensors in self._choice:
            if optimizer is not None:
                for name, tensor in tensors.items():
                    tensor.grad = gradients[name].to(tensor)
                optimizer.step()

    def by_file(self) -> dict[str, torch.optim.Optimizer | None]:
        """Return the optimizers by the checkpoint file of their tensors."""
        return dict(zip(OPTIMIZERS, (self.weights, *(optimizer for optimizer, _ in self._choice)), strict=True))


class Snapshot:
    """A copy of all changing tensors from before the last step with finite loss and gradients, to return to."""

    def __init__(self) -> None:
        self._tensors: State = {}
        self._step = (-1, -1)

    def take(self, tensors: State, step: tuple[int, int]) -> None:
        """Copy tensors, unless they were copied for this (target, step) already."""
        if self._step != step:
            self._tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
            self._step = step

    def restore(self, tensors: State) -> None:
        """Copy the values back; tensors that the snapshot does not have keep theirs."""
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(self._tensors.get(name, tensor))


class Alternation:
    """Alternates steps on weights and on the choice, at one cost target after another.

    Attributes:
        index: index of the target that is being learned; the number of targets when all are done.
        step: steps done at this target.
        steps: steps of each target.
        stopped: reason why the target ended early; empty if it did not.
        last_loss: loss of the last step.
    """

    def __init__(
        self,
        learner: Learner,
        loss: Loss,
        batches: Batches,
        training: TrainingConfig,
        targets: Sequence[CostTarget],
        tokens: int,
        compute: torch.dtype = torch.float32,
    ) -> None:
        """
        Args:
            training: how weights are trained.
            tokens: gradient tokens for each target.
        """
        self.learner, self.loss, self.batches, self.training = learner, loss, batches, training
        self.targets, self.steps = list(targets), tokens // batches.tokens_per_step
        self.index, self.step, self.stopped, self.last_loss = 0, 0, "", math.nan
        self._earlier_tokens, self._prepared_index, self._checkpoint_seconds = 0, -1, 0.0
        self._snapshot = Snapshot()
        self._cast = nullcontext() if compute == torch.float32 else torch.autocast(learner.device.type, compute)
        # Batch statistics follow the factors; those of the result are measured when a target ends.
        for layer in batch_norms(learner.relaxed.weights.model).values():
            layer.train()

    @property
    def tokens(self) -> int:
        """Gradient tokens spent on all targets."""
        return self._earlier_tokens + self.target_tokens

    @property
    def target_tokens(self) -> int:
        """Gradient tokens spent on the current target."""
        return self.step * self.batches.tokens_per_step

    def run_for(self, seconds: float, directory: Path) -> bool:
        """Learn for some seconds, at least a step, and write a checkpoint; return whether the target has ended."""
        self.begin()
        # Checkpoints that take long to write are written less often.
        limit = max(seconds, CHECKPOINT_TIME_FACTOR * self._checkpoint_seconds) if seconds else 0
        deadline = time.monotonic() + limit
        while not self.ended:
            self.advance()
            if time.monotonic() > deadline:
                break
        began = time.monotonic()
        self.save(directory)
        self._checkpoint_seconds = time.monotonic() - began
        return self.ended

    @property
    def ended(self) -> bool:
        """Whether the current target has no more steps."""
        return self.step >= self.steps or bool(self.stopped)

    def next_target(self) -> None:
        """Go on to the next target."""
        self._earlier_tokens += self.target_tokens
        self.index, self.step, self.stopped = self.index + 1, 0, ""

    def state(self) -> StepState:
        """Return the state in the middle of the next step, or at the end of the target."""
        options = self.learner.options
        progress = (self.step + 0.5) / self.steps if self.step < self.steps and not self.stopped else 1.0
        ramp = max(options.ramp, 1e-9)
        seed = np.random.SeedSequence([self.batches.seed, self.index, self.step]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(seed))
        ramp_step = 1 / max(ramp * self.steps, 1e-9)
        return StepState(self.targets[self.index], progress, min(progress / ramp, 1.0), ramp_step, generator)

    def begin(self) -> None:
        """Prepare the learner and new optimizers for the current target, once."""
        if self._prepared_index == self.index:
            return
        self.learner.begin(self.targets[self.index])
        self._optimizers = Optimizers(self.learner, self.training)
        self._prepared_index = self.index

    def advance(self) -> None:
        """Do one step: on the weights as often as the options say, then on the choice, and on the weights with it."""
        state, learner, options = self.state(), self.learner, self.learner.options
        total_step = self.index * self.steps + self.step
        for number in range(options.lower):
            samples = self.batches.for_weights(total_step, number)
            with torch.no_grad():
                factors = {name: factor.detach() for name, factor in learner.factors(state).items()}
            loss = self._loss(learner.relaxed.tensors(factors), samples)
            if not self._step_weights(state, gradients_of(loss, learner.relaxed.weights.parameters)):
                return
        if self._step_choice(state, self.batches.for_choice(total_step)):
            self.step += 1

    def _loss(self, tensors: dict[str, torch.Tensor], samples: Samples) -> torch.Tensor:
        with self._cast:
            return self.loss(tensors, samples)

    def _step_choice(self, state: StepState, samples: Samples) -> bool:
        """Step the choice, and the weights with it if they have no steps of their own; return whether it succeeded."""
        learner, weights = self.learner, self.learner.relaxed.weights.parameters
        tensors = learner.relaxed.tensors(learner.factors(state))
        loss = self._loss(tensors, samples)
        penalty = learner.penalty(state)
        total = loss if penalty is None else loss + penalty.to(loss)
        with_weights = bool(weights) and not learner.options.lower
        if with_weights:
            gradients = gradients_of(total, weights | learner.parameters | learner.multipliers)
        else:
            gradients = learner.gradients(total, tensors)
        if not math.isfinite(value := float(total.detach())):
            return self._stop(f"loss {value:g}")
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients.values()):
            return self._stop("gradients that are no numbers")
        self._take_snapshot()
        self.last_loss = float(loss.detach())
        if with_weights and not self._step_weights(state, gradients):
            return False
        self._optimizers.step_choice(gradients)
        with torch.no_grad():
            learner.project(state)
        return True

    def _step_weights(self, state: StepState, gradients: State) -> bool:
        """Step the weights, if they are trained; return whether it succeeded."""
        optimizer, learner = self._optimizers.weights, self.learner
        if optimizer is None:
            return True
        weights = learner.relaxed.weights
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(state.progress, self.training)
        for name, parameter in weights.parameters.items():
            parameter.grad = gradients[name]
        norm = torch.nn.utils.clip_grad_norm_(list(weights.parameters.values()), self.training.clip)
        if not math.isfinite(float(norm)):
            return self._stop(f"gradient norm {float(norm):g}")
        self._take_snapshot()
        before = {name: weights.model_parameters[name].detach().clone() for name in learner.remembered_parameters}
        optimizer.step()
        learner.after_weight_step(state, before)
        return True

    def _take_snapshot(self) -> None:
        self._snapshot.take(self._changing_tensors(), (self.index, self.step))

    def _stop(self, reason: str) -> bool:
        """End the target, with the tensors of the snapshot; return False."""
        self.stopped = f"{reason} at step {self.step + 1}"
        self._snapshot.restore(self._changing_tensors())
        return False

    def _changing_tensors(self) -> State:
        """Return all tensors that steps change, by `GROUP/NAME`."""
        learner = self.learner
        groups: dict[str, Mapping[str, torch.Tensor]] = {
            "weights": learner.relaxed.weights.parameters,
            "choice": learner.parameters,
            "multipliers": learner.multipliers,
            "beside": learner.buffers,
        }
        return {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}

    def save(self, directory: Path) -> None:
        """Write a checkpoint; the previous one stays until it is complete."""
        files = {STATE: self._changing_tensors()}
        for file, optimizer in self._optimizers.by_file().items():
            files[file] = {} if optimizer is None else optimizer_tensors(optimizer)
        write_checkpoint(
            directory, files, {"size": self.index, "step": self.step, "stopped": self.stopped, "tokens": self.tokens}
        )

    def load(self, directory: Path) -> None:
        """Resume from a checkpoint, if there is one, without any difference to an uninterrupted run."""
        checkpoint = read_checkpoint(directory, (STATE, *OPTIMIZERS))
        if checkpoint is None:
            return
        files, state = checkpoint
        self.index, self.step, self.stopped = state["size"], state["step"], state["stopped"]
        self._earlier_tokens = state["tokens"] - self.target_tokens
        if self.index == len(self.targets):
            return
        self.begin()
        with torch.no_grad():
            for name, tensor in self._changing_tensors().items():
                tensor.copy_(files[STATE][name])
        for file, optimizer in self._optimizers.by_file().items():
            if optimizer is not None:
                load_optimizer(optimizer, files[file])
        self._take_snapshot()


def split(samples: Samples, upper: float, seed: int) -> tuple[Samples, Samples]:
    """Return disjoint samples for steps on weights and on the choice; all samples for both if `upper` is 0.

    Args:
        upper: share of the samples for steps on the choice.
    """
    if not upper:
        return samples, samples
    order = np.random.default_rng([seed, 2]).permutation(len(samples))
    count = min(max(round(len(samples) * (1 - upper)), 1), len(samples) - 1)
    return samples.rows(np.sort(order[:count])), samples.rows(np.sort(order[count:]))
