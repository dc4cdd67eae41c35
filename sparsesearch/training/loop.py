"""One training run: steps, schedule, divergence, and checkpoints from which it goes on as if it had never stopped."""

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

# Seconds between two checkpoints at least; where writing one takes long, this many times as long.
PAUSE, SPARING = 10.0, 20
# A loss this many times the first ones', averaged over as many steps, has diverged.
DIVERGED, STEADY = 3.0, 5
# Share of steps over which the schedule wsd falls.
FALL = 0.2
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


class Diverged(Exception):
    """Training led nowhere; what the network was before still holds."""


def steps_of(tokens: int, options: TrainingConfig, length: int) -> int:
    """Whole steps that a number of training tokens allows; 0 where it is less than one."""
    return tokens // (options.batch * length)


def tokens_of(directory: Path) -> int:
    """Training tokens behind a checkpoint; 0 where there is none."""
    try:
        return int(read_json(directory / STATE)["tokens"])
    except (DamagedFile, ValueError, KeyError, TypeError):
        return 0


def rate(done: float, options: TrainingConfig) -> float:
    """The learning rate where a share `done`, in [0, 1], of all steps is behind."""
    if done < options.warmup:
        return options.learning_rate * done / options.warmup
    if options.schedule == "constant":
        return options.learning_rate
    if options.schedule == "wsd":
        return options.learning_rate * min(1.0, (1 - done) / FALL)
    rest = (done - options.warmup) / max(1 - options.warmup, 1e-9)
    return options.learning_rate * (1 + math.cos(math.pi * rest)) / 2


class TrainingRun:
    """Trains one network.

    Attributes:
        step: steps taken.
        begun: step at which the stretch began that is being trained, whatever interrupted it.
        tokens: of training data, consumed so far.
        losses: of every step.
        tolerance: how many times its first losses a loss may become.
    """

    tolerance = DIVERGED

    def __init__(
        self,
        trained: Trainee,
        objective: Objective,
        samples: Samples,
        options: TrainingConfig,
        steps: int,
        compute: torch.dtype = torch.float32,
    ) -> None:
        """
        Args:
            steps: of the whole schedule.
            compute: type of the arithmetic; weights are float32.
        """
        self.trained, self.objective, self.samples, self.options = trained, objective, samples, options
        self.steps, self.step, self.losses = steps, 0, list[float]()
        self.begun, self._until = 0, 0
        self._saved, self._took = time.monotonic(), 0.0  # the last checkpoint
        self._parameters = trained.parameters()
        device = next(iter(self._parameters.values())).device
        self._cast = nullcontext() if compute == torch.float32 else torch.autocast(device.type, compute)
        self._optimizer = optimizer_of(list(self._parameters.values()), options)

    @property
    def tokens(self) -> int:
        return self.step * self.options.batch * self.samples.length

    @property
    def stretch(self) -> int:
        """Tokens of the stretch that is being trained."""
        return (self.step - self.begun) * self.options.batch * self.samples.length

    def run(self, until: int) -> None:
        """Train to a step; raises Diverged."""
        while self.step < min(until, self.steps):
            self._one_step()

    def run_saving(self, until: int, directory: Path, tell: Callable[[], None]) -> None:
        """Train a stretch, with a checkpoint now and then, of each of which is told, and one at the end."""
        if until != self._until:
            self._until, self.begun = until, self.step
        self._saved, self._took = time.monotonic(), 0.0
        while self.step < min(until, self.steps):
            self._one_step()
            if self._save_sparingly(directory):
                tell()
        self.save(directory)

    def run_for(self, seconds: float, directory: Path) -> bool:
        """Train for a while, at least a step, with a checkpoint now and then; whether all steps are done."""
        ends = time.monotonic() + seconds
        while self.step < self.steps:
            self._one_step()
            if self.step == self.steps:
                self.save(directory)
                break
            self._save_sparingly(directory)
            if time.monotonic() >= ends:
                break
        return self.step >= self.steps

    def _save_sparingly(self, directory: Path) -> bool:
        """Write a checkpoint where the last one is long enough ago; whether it was."""
        now = time.monotonic()
        if now - self._saved <= max(PAUSE, SPARING * self._took):
            return False
        self.save(directory)
        self._saved = time.monotonic()
        self._took = self._saved - now
        return True

    def gradients(self) -> float:
        """Compute gradients of the next step's minibatch, at pruned weights too; its loss."""
        rows = rows_at(self.step, self.options.batch, len(self.samples), self.options.seed)
        with self._cast:
            value = self.objective(self.trained.model, self.samples.rows(rows))
        self._optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    def _one_step(self) -> None:
        for group in self._optimizer.param_groups:
            # In the middle of the step, so that no step is without effect.
            group["lr"] = rate((self.step + 0.5) / self.steps, self.options)
        value = self.gradients()
        self.trained.settle()  # gradients, before they enter momentum and the norm
        norm = torch.nn.utils.clip_grad_norm_(list(self._parameters.values()), self.options.clip)
        self._check(value, float(norm))
        self._optimizer.step()
        self.trained.settle()
        self.step += 1

    def _check(self, value: float, norm: float) -> None:
        self.losses.append(value)
        if not math.isfinite(value) or not math.isfinite(norm):
            raise Diverged(f"loss {value:g}, gradient norm {norm:g} at step {self.step + 1}")
        if len(self.losses) >= 2 * STEADY:
            first, last = sum(self.losses[:STEADY]), sum(self.losses[-STEADY:])
            if last > self.tolerance * first:
                raise Diverged(f"loss rose from {first / STEADY:.3g} to {last / STEADY:.3g} by step {self.step + 1}")

    def save(self, directory: Path) -> None:
        """Write a checkpoint; the previous one stays until it is complete."""
        told = {"step": self.step, "begun": self.begun, "until": self._until, "tokens": self.tokens}
        files = {WEIGHTS: self._moving(), OPTIMIZER: tensors_of(self._optimizer)}
        write_checkpoint(directory, files, told | {"losses": self.losses})

    def _moving(self) -> dict[str, torch.Tensor]:
        return self._parameters | dict(_statistics(self.trained.model))

    def load(self, directory: Path) -> bool:
        """Go on from a checkpoint, or from the one before where it is torn; whether there was one."""
        found = read_checkpoint(directory, (WEIGHTS, OPTIMIZER))
        if found is None:
            return False
        files, state = found
        with torch.no_grad():
            for name, tensor in self._moving().items():
                tensor.copy_(files[WEIGHTS][name])
        restore(self._optimizer, files[OPTIMIZER])
        self.step, self.losses = state["step"], state["losses"]
        self.begun, self._until = state["begun"], state["until"]
        return True


def write_checkpoint(directory: Path, files: Mapping[str, Mapping[str, torch.Tensor]], state: dict[str, Any]) -> None:
    """Write tensors by file, and a state; the previous checkpoint stays until this one is complete."""
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
    """What was written, or what was before where that is torn; None where there is nothing."""
    for place in (directory, directory.with_name(directory.name + ".old")):
        try:
            return {file: read_tensors(place / file) for file in files}, read_json(place / STATE)
        except DamagedFile:
            continue
    return None


def _statistics(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Running statistics, which move while batch normalisation trains."""
    return [(n, b) for n, b in model.named_buffers() if n.rpartition(".")[2].startswith(("running_", "num_batches"))]


def optimizer_of(parameters: list[torch.nn.Parameter], options: TrainingConfig) -> torch.optim.Optimizer:
    common: dict[str, Any] = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, **common)
    return torch.optim.AdamW(parameters, **common)


def tensors_of(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimizer's tensors by `INDEX.NAME`."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }


def restore(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
