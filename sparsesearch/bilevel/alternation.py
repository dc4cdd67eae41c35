"""The loop that all methods share: steps on weights, a step on the choice, projection; sizes one after another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from sparsesearch.bilevel.base import Learner, Moment, Size, gradients_of
from sparsesearch.config import TrainingConfig
from sparsesearch.data.samples import Samples
from sparsesearch.evaluation.batchnorm import batch_norms
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
# The loss of a network with the tensors that stand in place of its own.
Loss = Callable[[dict[str, torch.Tensor], Samples], torch.Tensor]


class Loop:
    """Learns a choice at one size after another.

    Attributes:
        size: index of the size that is being learned; the number of sizes when all are done.
        step: steps of the size that are behind.
        stopped: why the size ended early; empty where it did not.
        last: loss of the last step.
    """

    def __init__(
        self,
        learner: Learner,
        loss: Loss,
        samples: Samples,
        training: TrainingConfig,
        sizes: Sequence[Size],
        tokens: int,
        seed: int,
        compute: torch.dtype = torch.float32,
    ) -> None:
        """
        Args:
            samples: training data; split where weights have steps of their own.
            training: how weights move, and samples a step where the learner's options do not say.
            tokens: gradient tokens for each size.
        """
        self.learner, self.loss, self.training, self.sizes = learner, loss, training, list(sizes)
        self.seed, options = seed, learner.options
        self.lower, self.upper = split(samples, options.upper if options.lower else 0.0, seed)
        self.batch: int = options.batch or training.batch
        each: int = (options.lower + 1) * self.batch * samples.length
        self.steps, self._each = tokens // each, each
        self.size, self.step, self.stopped = 0, 0, ""
        self._weights = learner.relaxed.weights.parameters
        device = learner.device
        self._cast = nullcontext() if compute == torch.float32 else torch.autocast(device.type, compute)
        # Batch statistics follow what is open; those of the result are measured when a size ends.
        for layer in batch_norms(learner.relaxed.weights.model).values():
            layer.train()
        self._begun, self._before, self.last = -1, 0, math.nan
        # What everything was when the last step began of which gradients were numbers, and which step that was.
        self._good, self._good_at, self._took = dict[str, torch.Tensor](), (-1, -1), 0.0

    @property
    def tokens(self) -> int:
        """Gradient tokens that are behind, of all sizes."""
        return self._before + self.spent

    @property
    def spent(self) -> int:
        """Gradient tokens of the size that is being learned."""
        return self.step * self._each

    def go_on(self, directory: Path, seconds: float) -> bool:
        """Learn for a while, at least a step, at most to the end of the size, and save; whether the size has ended."""
        self.begin()
        # Where writing a checkpoint takes long, they are further apart.
        until = time.monotonic() + (max(seconds, CHECKPOINT_TIME_FACTOR * self._took) if seconds else 0)
        while not self.ended:
            self.advance()
            if time.monotonic() > until:
                break
        began = time.monotonic()
        self.save(directory)
        self._took = time.monotonic() - began
        return self.ended

    @property
    def ended(self) -> bool:
        """Whether the size has no more steps."""
        return self.step >= self.steps or bool(self.stopped)

    def next_size(self) -> None:
        """The size is decided; the next one begins."""
        self._before += self.spent
        self.size, self.step, self.stopped = self.size + 1, 0, ""

    def moment(self) -> Moment:
        """Where the size stands; in the middle of the next step."""
        options = self.learner.options
        done = (self.step + 0.5) / self.steps if self.step < self.steps and not self.stopped else 1.0
        ramp = max(options.ramp, 1e-9)
        number = np.random.SeedSequence([self.seed, self.size, self.step]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(number))
        return Moment(self.sizes[self.size], done, min(done / ramp, 1.0), 1 / max(ramp * self.steps, 1e-9), generator)

    def begin(self) -> None:
        """Fresh optimizers for the size, once."""
        if self._begun == self.size:
            return
        learner, options = self.learner, self.learner.options
        learner.begin(self.sizes[self.size])
        self._optimizers: list[torch.optim.Optimizer | None] = [
            make_optimizer(list(self._weights.values()), self.training) if self._weights else None,
            learner.optimizer(list(learner.parameters.values())) if learner.parameters else None,
            torch.optim.SGD(list(learner.multipliers.values()), lr=options.multiplier_rate, maximize=True)
            if learner.multipliers
            else None,
        ]
        self._begun = self.size

    def advance(self) -> None:
        """One step: on the weights as often as the options say, then on the choice, and on the weights with it."""
        moment, options, batch = self.moment(), self.learner.options, self.batch
        whole = self.size * self.steps + self.step
        for number in range(options.lower):
            rows = rows_at(whole * options.lower + number, batch, len(self.lower), self.seed)
            with torch.no_grad():
                openings = {name: opening.detach() for name, opening in self.learner.openings(moment).items()}
            tensors = self.learner.relaxed.tensors(openings)
            if not self._step_weights(moment, gradients_of(self._loss(tensors, self.lower.rows(rows)), self._weights)):
                return
        rows = rows_at(whole, batch, len(self.upper), self.seed + 1 if options.lower else self.seed)
        if self._step_choice(moment, self.upper.rows(rows)):
            self.step += 1

    def _loss(self, tensors: dict[str, torch.Tensor], samples: Samples) -> torch.Tensor:
        with self._cast:
            return self.loss(tensors, samples)

    def _step_choice(self, moment: Moment, samples: Samples) -> bool:
        """Move the choice, and the weights with it where they have no steps of their own."""
        learner = self.learner
        tensors = learner.relaxed.tensors(learner.openings(moment))
        loss = self._loss(tensors, samples)
        penalty = learner.penalty(moment)
        total = loss if penalty is None else loss + penalty.to(loss)
        together = bool(self._weights) and not learner.options.lower
        if together:
            found = gradients_of(total, self._weights | learner.parameters | learner.multipliers)
        else:
            found = learner.gradients(total, tensors)
        if not math.isfinite(value := float(total.detach())):
            return self._stop(f"loss {value:g}")
        if not all(bool(torch.isfinite(gradient).all()) for gradient in found.values()):
            return self._stop("gradients that are no numbers")
        self._keep()
        self.last = float(loss.detach())
        if together and not self._step_weights(moment, found):
            return False
        pairs = zip(self._optimizers[1:], (learner.parameters, learner.multipliers), strict=True)
        for optimizer, moved in pairs:
            if optimizer is not None:
                for name, tensor in moved.items():
                    tensor.grad = found[name].to(tensor)
                optimizer.step()
        with torch.no_grad():
            learner.project(moment)
        return True

    def _step_weights(self, moment: Moment, gradients: dict[str, torch.Tensor]) -> bool:
        optimizer, learner = self._optimizers[0], self.learner
        if optimizer is None:
            return True
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(moment.done, self.training)
        for name, parameter in self._weights.items():
            parameter.grad = gradients[name]
        norm = torch.nn.utils.clip_grad_norm_(list(self._weights.values()), self.training.clip)
        if not math.isfinite(float(norm)):
            return self._stop(f"gradient norm {float(norm):g}")
        self._keep()
        before = {name: learner.relaxed.weights.own[name].detach().clone() for name in learner.remembers}
        optimizer.step()
        learner.weights_stepped(moment, before)
        return True

    def _keep(self) -> None:
        """Remember what everything is, once a step, before anything moves."""
        if self._good_at != (self.size, self.step):
            self._good = {name: tensor.detach().clone() for name, tensor in self._moving().items()}
            self._good_at = self.size, self.step

    def _stop(self, why: str) -> bool:
        """The size ends, with what there was before the step that led here; False."""
        self.stopped = f"{why} at step {self.step + 1}"
        with torch.no_grad():
            for name, tensor in self._moving().items():
                tensor.copy_(self._good.get(name, tensor))
        return False

    def _moving(self) -> dict[str, torch.Tensor]:
        learner = self.learner
        groups: dict[str, Mapping[str, torch.Tensor]] = {
            "weights": self._weights,
            "choice": learner.parameters,
            "multipliers": learner.multipliers,
            "beside": learner.kept_beside,
        }
        return {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}

    def save(self, directory: Path) -> None:
        """Write a checkpoint; the one before stays until it is complete."""
        files = {STATE: self._moving()}
        for file, optimizer in zip(OPTIMIZERS, self._optimizers, strict=True):
            files[file] = {} if optimizer is None else optimizer_tensors(optimizer)
        write_checkpoint(
            directory, files, {"size": self.size, "step": self.step, "stopped": self.stopped, "tokens": self.tokens}
        )

    def load(self, directory: Path) -> None:
        """Go on from a checkpoint, where there is one, as if nothing had been between."""
        found = read_checkpoint(directory, (STATE, *OPTIMIZERS))
        if found is None:
            return
        files, state = found
        self.size, self.step, self.stopped = state["size"], state["step"], state["stopped"]
        self._before = state["tokens"] - self.spent
        if self.size == len(self.sizes):
            return
        self.begin()
        with torch.no_grad():
            for name, tensor in self._moving().items():
                tensor.copy_(files[STATE][name])
        for file, optimizer in zip(OPTIMIZERS, self._optimizers, strict=True):
            if optimizer is not None:
                load_optimizer(optimizer, files[file])
        self._keep()


def split(samples: Samples, upper: float, seed: int) -> tuple[Samples, Samples]:
    """Disjoint samples for steps on weights and on the choice; all for both where `upper` is 0."""
    if not upper:
        return samples, samples
    order = np.random.default_rng([seed, 2]).permutation(len(samples))
    cut = min(max(round(len(samples) * (1 - upper)), 1), len(samples) - 1)
    return samples.rows(np.sort(order[:cut])), samples.rows(np.sort(order[cut:]))
