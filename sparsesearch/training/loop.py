"""One training run: steps, schedule, divergence, and checkpoints from which it resumes without any difference."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from sparsesearch.config import TrainingConfig
from sparsesearch.data.samples import Samples
from sparsesearch.errors import DamagedFile
from sparsesearch.files import read_json, sync_tree, write_json
from sparsesearch.tensors import read_tensors, write_tensors
from sparsesearch.training.objective import Objective
from sparsesearch.training.order import rows_at
from sparsesearch.training.trainee import Trainee

# Fewest seconds between two checkpoints, and the same as a multiple of the seconds that writing the last one took.
MIN_CHECKPOINT_SECONDS, CHECKPOINT_TIME_FACTOR = 10.0, 20
# Training has diverged if the loss is more than this many times that of the first steps, both averaged over some steps.
MAX_LOSS_RATIO, STEPS_AVERAGED = 3.0, 5
# Share of steps over which the schedule wsd decays.
WSD_DECAY_SHARE = 0.2
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


class Diverged(Exception):
    """Training diverged."""


def steps_of(tokens: int, options: TrainingConfig, length: int) -> int:
    """Return the number of whole steps in a number of training tokens; `length` is the tokens of a sample."""
    return tokens // (options.batch * length)


def tokens_of(directory: Path) -> int:
    """Return the training tokens of a checkpoint; 0 if there is none."""
    try:
        return int(read_json(directory / STATE)["tokens"])
    except (DamagedFile, ValueError, KeyError, TypeError):
        return 0


def learning_rate_at(progress: float, options: TrainingConfig) -> float:
    """Return the learning rate after a share `progress`, in [0, 1], of all steps."""
    if progress < options.warmup:
        return options.learning_rate * progress / options.warmup
    if options.schedule == "constant":
        return options.learning_rate
    if options.schedule == "wsd":
        return options.learning_rate * min(1.0, (1 - progress) / WSD_DECAY_SHARE)
    rest = (progress - options.warmup) / max(1 - options.warmup, 1e-9)
    return options.learning_rate * (1 + math.cos(math.pi * rest)) / 2


class TrainingRun:
    """Trains one network, in segments that each end at a step; an interrupted segment is resumed.

    Attributes:
        step: steps taken.
        losses: loss of every step.
        segment_start: step at which the current segment began.
        max_loss_ratio: largest ratio of the last losses to the first ones before training counts as diverged.
    """

    max_loss_ratio = MAX_LOSS_RATIO

    def __init__(
        self,
        trainee: Trainee,
        objective: Objective,
        samples: Samples,
        options: TrainingConfig,
        steps: int,
        compute: torch.dtype = torch.float32,
    ) -> None:
        """
        Args:
            steps: steps of the whole schedule.
            compute: data type of the arithmetic; weights are float32.
        """
        self.trainee, self.objective, self.samples, self.options = trainee, objective, samples, options
        self.steps, self.step, self.losses = steps, 0, list[float]()
        self.segment_start, self._segment_end = 0, 0
        self._saved_at, self._saving_seconds = time.monotonic(), 0.0
        self._parameters = trainee.parameters()
        device = next(iter(self._parameters.values())).device
        self._cast = nullcontext() if compute == torch.float32 else torch.autocast(device.type, compute)
        self._optimizer = make_optimizer(list(self._parameters.values()), options)

    @property
    def tokens(self) -> int:
        """Training tokens consumed so far."""
        return self.step * self.options.batch * self.samples.length

    @property
    def segment_tokens(self) -> int:
        """Training tokens consumed in the current segment."""
        return (self.step - self.segment_start) * self.options.batch * self.samples.length

    def run(self, end: int) -> None:
        """Train until step `end`; raises Diverged."""
        while self.step < min(end, self.steps):
            self._one_step()

    def run_saving(self, end: int, directory: Path, on_checkpoint: Callable[[], None]) -> None:
        """Train a segment until step `end`, with checkpoints on the way and one at the end; raises Diverged.

        Args:
            on_checkpoint: called after each checkpoint on the way.
        """
        if end != self._segment_end:
            self._segment_end, self.segment_start = end, self.step
        self._saved_at, self._saving_seconds = time.monotonic(), 0.0
        while self.step < min(end, self.steps):
            self._one_step()
            if self._save_if_due(directory):
                on_checkpoint()
        self.save(directory)

    def run_for(self, seconds: float, directory: Path) -> bool:
        """Train for some seconds, at least a step, with checkpoints on the way; return whether all steps are done."""
        deadline = time.monotonic() + seconds
        while self.step < self.steps:
            self._one_step()
            if self.step == self.steps:
                self.save(directory)
                break
            self._save_if_due(directory)
            if time.monotonic() >= deadline:
                break
        return self.step >= self.steps

    def _save_if_due(self, directory: Path) -> bool:
        """Write a checkpoint if the last one is old enough; return whether it was written."""
        now = time.monotonic()
        if now - self._saved_at <= max(MIN_CHECKPOINT_SECONDS, CHECKPOINT_TIME_FACTOR * self._saving_seconds):
            return False
        self.save(directory)
        self._saved_at = time.monotonic()
        self._saving_seconds = self._saved_at - now
        return True

    def gradients(self) -> float:
        """Compute gradients of the next step's minibatch, also of pruned weights, and return its loss."""
        rows = rows_at(self.step, self.options.batch, len(self.samples), self.options.seed)
        with self._cast:
            value = self.objective(self.trainee.model, self.samples.rows(rows))
        self._optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    def _one_step(self) -> None:
        for group in self._optimizer.param_groups:
            # The middle of the step: the rate of its start or end may be zero.
            group["lr"] = learning_rate_at((self.step + 0.5) / self.steps, self.options)
        value = self.gradients()
        self.trainee.enforce_masks()  # on gradients, before the norm and momentum use them
        norm = torch.nn.utils.clip_grad_norm_(list(self._parameters.values()), self.options.clip)
        self._check(value, float(norm))
        self._optimizer.step()
        self.trainee.enforce_masks()
        self.step += 1

    def _check(self, value: float, norm: float) -> None:
        self.losses.append(value)
        if not math.isfinite(value) or not math.isfinite(norm):
            raise Diverged(f"loss {value:g}, gradient norm {norm:g} at step {self.step + 1}")
        count = STEPS_AVERAGED
        if len(self.losses) >= 2 * count:
            first, last = sum(self.losses[:count]), sum(self.losses[-count:])
            if last > self.max_loss_ratio * first:
                raise Diverged(f"loss rose from {first / count:.3g} to {last / count:.3g} by step {self.step + 1}")

    def save(self, directory: Path) -> None:
        """Write a checkpoint; the previous one stays until it is complete."""
        state = {"step": self.step, "begun": self.segment_start, "until": self._segment_end, "tokens": self.tokens}
        files = {WEIGHTS: self._changing_tensors(), OPTIMIZER: optimizer_tensors(self._optimizer)}
        write_checkpoint(directory, files, state | {"losses": self.losses})

    def _changing_tensors(self) -> dict[str, torch.Tensor]:
        return self._parameters | dict(_running_statistics(self.trainee.model))

    def load(self, directory: Path) -> bool:
        """Resume from a checkpoint, or from the one before if it is damaged; return whether there was one."""
        checkpoint = read_checkpoint(directory, (WEIGHTS, OPTIMIZER))
        if checkpoint is None:
            return False
        files, state = checkpoint
        with torch.no_grad():
            for name, tensor in self._changing_tensors().items():
                tensor.copy_(files[WEIGHTS][name])
        load_optimizer(self._optimizer, files[OPTIMIZER])
        self.step, self.losses = state["step"], state["losses"]
        self.segment_start, self._segment_end = state["begun"], state["until"]
        return True


def write_checkpoint(directory: Path, files: Mapping[str, Mapping[str, torch.Tensor]], state: dict[str, Any]) -> None:
    """Write files of tensors, and a state as JSON; the previous checkpoint stays until this one is complete."""
    temporary, previous = (directory.with_name(directory.name + end) for end in (".tmp", ".old"))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for file, tensors in files.items():
            write_tensors(temporary / file, {name: tensor.detach().clone() for name, tensor in tensors.items()})
        write_json(temporary / STATE, state, durable=False)
        sync_tree(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(previous, ignore_errors=True)
    if directory.exists():
        directory.rename(previous)
    temporary.rename(directory)


def read_checkpoint(
    directory: Path, files: Sequence[str]
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]] | None:
    """Read a checkpoint's files of tensors and its state, or the one before if it is damaged; None without any."""
    for candidate in (directory, directory.with_name(directory.name + ".old")):
        try:
            return {file: read_tensors(candidate / file) for file in files}, read_json(candidate / STATE)
        except DamagedFile:
            continue
    return None


def _running_statistics(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the running statistics, which change while batch normalisation trains, by name."""
    return [(n, b) for n, b in model.named_buffers() if n.rpartition(".")[2].startswith(("running_", "num_batches"))]


def make_optimizer(parameters: list[torch.nn.Parameter], options: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimizer that the options name."""
    common: dict[str, Any] = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, **common)
    return torch.optim.AdamW(parameters, **common)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return an optimizer's tensors by `INDEX.NAME`."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Load tensors of `optimizer_tensors` into an optimizer."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
