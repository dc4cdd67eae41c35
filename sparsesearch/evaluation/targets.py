"""The qualities of candidates: for each, the stored outputs of the dense model and the loss of a sample."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from sparsesearch.data.samples import Rows, Samples
from sparsesearch.errors import problem
from sparsesearch.files import reserve_disk_space
from sparsesearch.models.network import Network
from sparsesearch.models.task import Task

# Names of tasks: those whose outputs are values of classes, and those of hidden states.
CLASSES = ("text-classes", "image-classes", "module")
EMBEDDINGS = ("embedding", "image-embedding")


class Targets:
    """A memory-mapped cache for selection samples, shared by all workers of a machine.

    A subclass is one quality; the first line of its docstring is what users read.

    Attributes:
        tasks: names of the tasks (`models.task.TASKS`) whose networks it can judge.
        needs_labels: whether it reads the labels of selection data.
        files: names of its arrays, each a file of the cache.
    """

    tasks: ClassVar[tuple[str, ...]] = ()
    needs_labels: ClassVar[bool] = False
    files: ClassVar[tuple[str, ...]] = ()

    def __init__(self, directory: Path, mode: Literal["r", "r+"] = "r") -> None:
        self.directory = directory
        self.samples = Samples.load(directory / "samples")
        self.arrays: dict[str, npt.NDArray[Any]] = {
            name: np.load(directory / f"{name}.npy", mmap_mode=mode) for name in self.files
        }

    @classmethod
    def create(cls, directory: Path, samples: Samples, shape: tuple[int, int]) -> Targets:
        """Allocate an empty cache for outputs (samples, positions, values); `fill` writes it.

        Args:
            shape: (positions, values).
        """
        samples.save(directory / "samples")
        return cls(directory, "r+")

    def fill(self, model: Any, task: Task, start: int, stop: int, batch: int) -> None:
        """Run the dense model on samples `start` to `stop` and write its outputs; raises InputError SS233.

        Args:
            batch: samples of a forward pass.
        """
        for first in range(start, stop, batch):
            rows = slice(first, min(first + batch, stop))
            outputs = outputs_of(model, task, self.samples.rows(rows))
            if not bool(torch.isfinite(outputs).all()):
                raise problem(
                    "SS233",
                    f"outputs of the dense network on selection samples {rows.start} to {rows.stop - 1} hold "
                    "values that are not finite (NaN or infinite).",
                    fix="Correct the model, or leave these samples out.",
                )
            self.write(rows, outputs)
        for array in self.arrays.values():
            array.flush()  # type: ignore[attr-defined]

    @classmethod
    def is_blind(cls, network: Network) -> bool:
        """Return whether it cannot see any change of what a network of its tasks puts out."""
        return False

    @staticmethod
    def objective(losses: npt.NDArray[np.float64]) -> float:
        """Return what a search minimises, of the losses (samples,): their mean."""
        return float(np.mean(losses))

    def write(self, rows: slice, outputs: torch.Tensor) -> None:
        """Store the part of dense outputs (samples, positions, values) that `losses` needs; by default none."""

    def losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Return each sample's loss, float64, of a candidate's outputs, (samples, positions, values) -> (samples,)."""
        raise NotImplementedError


def allocate(path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    """Create an empty array on disk and reserve its space; raises EnvironmentProblem SS305."""
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
    reserve_disk_space(path, path.stat().st_size)


def outputs_of(model: Any, task: Task, samples: Samples) -> torch.Tensor:
    """Return a model's outputs, float32 (samples, positions, values)."""
    with torch.no_grad():
        return task.call(model, samples.inputs(model))


class NextToken(Targets):
    """exp of the mean next-token loss."""

    tasks: ClassVar[tuple[str, ...]] = ("causal",)

    @staticmethod
    def objective(losses: npt.NDArray[np.float64]) -> float:
        return float(np.exp(float(np.mean(losses))))

    def losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        return next_token_loss(outputs, self.samples.arrays["input_ids"][rows]).mean(dim=1)


def next_token_loss(logits: torch.Tensor, tokens: npt.NDArray[Any]) -> torch.Tensor:
    """Return the cross-entropy of every token but the first in nats, float64 (sequences, length - 1).

    Args:
        logits: (sequences, length, values).
        tokens: (sequences, length).
    """
    targets = torch.from_numpy(np.asarray(tokens[:, 1:], dtype=np.int64)).to(logits.device)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none")
    return loss.double()


class Errors(Targets):
    """Share of samples whose largest output is not the right class."""

    tasks: ClassVar[tuple[str, ...]] = CLASSES
    needs_labels = True

    @classmethod
    def is_blind(cls, network: Network) -> bool:
        return network.values == 1

    def losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        assert self.samples.labels is not None
        labels = torch.from_numpy(np.asarray(self.samples.labels[rows], dtype=np.int64)).to(outputs.device)
        return (outputs.mean(dim=1).argmax(dim=-1) != labels).double()


class Cosine(Targets):
    """1 - cosine similarity of the embedding (mean of the last hidden states) to the dense model's."""

    tasks: ClassVar[tuple[str, ...]] = EMBEDDINGS
    files = ("embedding",)

    @classmethod
    def create(cls, directory: Path, samples: Samples, shape: tuple[int, int]) -> Targets:
        samples.save(directory / "samples")
        allocate(directory / "embedding.npy", (len(samples), shape[1]), np.float32)
        return cls(directory, "r+")

    def write(self, rows: slice, outputs: torch.Tensor) -> None:
        self.arrays["embedding"][rows] = outputs.mean(dim=1).cpu().numpy()

    def losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        dense = torch.from_numpy(np.array(self.arrays["embedding"][rows])).to(outputs.device).double()
        similarity = torch.nn.functional.cosine_similarity(outputs.mean(dim=1).double(), dense, dim=-1)
        return (1 - similarity).clamp_min(0.0)


class HiddenStates(Targets):
    """Squared distance of the last hidden states from the dense model's, relative to their squared norm."""

    tasks: ClassVar[tuple[str, ...]] = EMBEDDINGS
    files = ("states",)

    @classmethod
    def create(cls, directory: Path, samples: Samples, shape: tuple[int, int]) -> Targets:
        samples.save(directory / "samples")
        allocate(directory / "states.npy", (len(samples), *shape), np.float32)
        return cls(directory, "r+")

    def write(self, rows: slice, outputs: torch.Tensor) -> None:
        self.arrays["states"][rows] = outputs.cpu().numpy()

    def losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        dense = torch.from_numpy(np.array(self.arrays["states"][rows])).to(outputs.device).double()
        change = (outputs.double() - dense).square().sum(dim=(1, 2))
        return change / dense.square().sum(dim=(1, 2)).clamp_min(1e-30)


class Distance(HiddenStates):
    """Squared distance of the outputs from the dense model's, relative to how much these vary between samples."""

    tasks: ClassVar[tuple[str, ...]] = CLASSES

    @cached_property
    def variance(self) -> float:
        """Variance of the dense outputs around the mean of each value, mean over values."""
        states = self.arrays["states"].reshape(-1, self.arrays["states"].shape[-1])
        return max(float(states.var(axis=0, dtype=np.float64).mean()), 1e-30)

    def losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        dense = torch.from_numpy(np.array(self.arrays["states"][rows])).to(outputs.device).double()
        return (outputs.double() - dense).square().mean(dim=(1, 2)) / self.variance
