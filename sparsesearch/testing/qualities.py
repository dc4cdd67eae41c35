"""Conformance of qualities, on random outputs of each task."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from sparsesearch.data import Samples
from sparsesearch.evaluation import Targets, quality_class
from sparsesearch.models.task import TASKS, Task

SAMPLES, POSITIONS, CLASSES, VOCABULARY = 24, 6, 5, 40


def samples_of(task: Task, labels: bool = True) -> Samples:
    """Return random samples as networks of a task take them, with a class each if their loss has one."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, CLASSES, SAMPLES) if labels and task.classifies else None
    if task.data == "image":
        return Samples({"pixel_values": rng.normal(size=(SAMPLES, 3, 8, 8)).astype(np.float32)}, classes)
    tokens = rng.integers(0, VOCABULARY, (SAMPLES, POSITIONS)).astype(np.int32)
    if task.data == "pair":
        return Samples({"input_ids": tokens, "decoder_input_ids": tokens[:, ::-1].copy()}, classes)
    return Samples({"input_ids": tokens}, classes)


def outputs_shape(task: Task) -> tuple[int, int]:
    """Return (positions, values) of what the networks of a task put out for `samples_of`."""
    return (1 if task.classifies else POSITIONS, CLASSES if task.classifies else VOCABULARY)


def check_quality(name: str, work: Path) -> None:
    """Check a registered quality on each of its tasks.

    - Each sample has a finite loss, in float64.
    - Losses are repeatable: they depend neither on the other samples nor on the instance that opened the cache.
    - They change with the network's outputs.
    - Labels are read if the quality has `needs_labels`, and only then.
    - The objective is finite and rises with the losses.

    Args:
        work: an empty directory.

    Raises AssertionError, or InputError SS102.
    """
    cls = quality_class(name)
    for task in (TASKS[task] for task in cls.tasks):
        _check_losses(cls, task, work / task.name)
        if task.classifies and not cls.needs_labels:
            _check_without_labels(cls, task, work / f"{task.name}-unlabelled")
    _check_objective(cls)


def _filled(cls: type[Targets], task: Task, directory: Path, labels: bool = True) -> torch.Tensor:
    """Make a cache of random dense outputs, in two portions, and return the outputs (samples, positions, values)."""
    shape = outputs_shape(task)
    outputs = torch.randn(SAMPLES, *shape, generator=torch.Generator().manual_seed(0)) * 2
    cls.create(directory, samples_of(task, labels), shape)
    for rows in (slice(3, SAMPLES), slice(0, 3)):
        targets = cls(directory, "r+")
        targets.write(rows, outputs[rows])
        for array in targets.arrays.values():
            array.flush()  # type: ignore[attr-defined]
    return outputs


def _check_losses(cls: type[Targets], task: Task, directory: Path) -> None:
    dense = _filled(cls, task, directory)
    targets, other = cls(directory), torch.randn(dense.shape, generator=torch.Generator().manual_seed(1)) * 2
    losses = targets.losses(other, slice(0, SAMPLES))
    assert losses.shape == (SAMPLES,), f"{task.name}: there is a loss of each sample, got shape {tuple(losses.shape)}"
    assert losses.dtype == torch.float64, f"{task.name}: losses are float64, got {losses.dtype}"
    assert torch.isfinite(losses).all(), f"{task.name}: losses are finite, got {losses}"
    assert torch.equal(cls(directory).losses(other, slice(0, SAMPLES)), losses), f"{task.name}: losses change"
    rows = np.array([5, 0, 2])
    some = targets.losses(other[rows], rows)
    assert torch.allclose(some, losses[rows]), f"{task.name}: a sample's loss depends on which others are asked for"
    same = torch.equal(targets.losses(dense, slice(0, SAMPLES)), losses)
    assert not same, f"{task.name}: losses do not depend on what the network puts out"


def _check_without_labels(cls: type[Targets], task: Task, directory: Path) -> None:
    outputs = _filled(cls, task, directory, labels=False)
    losses = cls(directory).losses(outputs, slice(0, SAMPLES))
    assert torch.isfinite(losses).all(), f"{task.name}: a quality that reads labels says so with needs_labels = True"


def _check_objective(cls: type[Targets]) -> None:
    low, high = (cls.objective(np.full(SAMPLES, loss)) for loss in (0.25, 0.5))
    for value in (low, high):
        assert isinstance(value, float) and math.isfinite(value), f"the objective is a finite number, got {value!r}"
    assert low < high, f"the objective rises with the losses, got {low} of losses 0.25 and {high} of losses 0.5"
