"""The pass over calibration data, block by block, that collects the statistics of local pruners.

Only one block's activations are ever in memory, a minibatch at a time: the hidden states between blocks are in a
memory-mapped file. Statistics of a block are written before its outputs are computed, so an interrupted pass repeats
forward passes but no finished collection.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sparsesearch.calibration.collect import FIELDS, Collector, InputStatistics
from sparsesearch.data.samples import Samples
from sparsesearch.files import reserve_disk_space
from sparsesearch.models.network import Network
from sparsesearch.tensors import is_intact, read_tensors, write_tensors

# Hint of the error for damaged statistics.
RECOLLECT = "'sparsesearch resume RUN' collects them again."
Statistics = dict[str, InputStatistics]
# A block's positional arguments after the hidden states, and its keyword arguments.
BlockArguments = tuple[tuple[Any, ...], dict[str, Any]]


class _Captured(Exception):
    """Ends a forward pass early."""


def block_arguments(model: Any, network: Network, sample: Samples) -> list[BlockArguments]:
    """Return each block's arguments beside the hidden states (masks, rotary embeddings, positions) for one sample."""
    captured: dict[int, BlockArguments] = {}
    hooks = []
    for index, path in enumerate(network.blocks):

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], index: int = index) -> None:
            others = {k: v for k, v in kwargs.items() if k != "hidden_states" and not hasattr(v, "get_seq_length")}
            captured[index] = (args[1:], others)

        hooks.append(model.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True))
    try:
        outputs(model, network, sample)
    finally:
        for handle in hooks:
            handle.remove()
    return [captured[index] for index in range(len(network.blocks))]


def outputs(model: Any, network: Network, samples: Samples) -> torch.Tensor:
    """Run one forward pass without gradients; returns outputs (samples, positions, values)."""
    with torch.no_grad():
        return network.task.call(model, samples.inputs(model))


def embed(model: Any, network: Network, samples: Samples) -> torch.Tensor:
    """Return the inputs of the first block, hidden states (samples, positions, hidden)."""
    states: list[torch.Tensor] = []

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])
        raise _Captured

    handle = model.get_submodule(network.blocks[0]).register_forward_pre_hook(hook, with_kwargs=True)
    try:
        outputs(model, network, samples)
    except _Captured:
        pass
    finally:
        handle.remove()
    return states[0]


class WholeModelPass:
    """Collects statistics of all blocks in one pass, for networks whose blocks do not follow one another in a chain.

    Takes the arguments of `BlockPass`; the second moments of all matrices are in memory at once.
    """

    def __init__(self, model: Any, network: Network, samples: Samples, directory: Path, batch: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.network = directory, network
        blocks = dict(enumerate(network.blocks))
        with Collector(model, network.matrices.values(), samples.length, blocks) as collector:
            for start in range(0, len(samples), batch):
                outputs(model, network, samples.rows(slice(start, start + batch)))
        self._tensors = collector.result()

    def collect(self, block: int) -> Path:
        """Write the input statistics of a block's matrices, `KEY:FIELD`."""
        keys = {matrix.input_key for matrix in self.network.matrices.values() if matrix.block == block}
        keys.add(f"block {block}")
        tensors = {name: tensor for name, tensor in self._tensors.items() if name.rpartition(":")[0] in keys}
        return write_statistics(self.directory, block, tensors)

    def advance(self, block: int) -> None:
        """Do nothing: every block has run already."""

    def close(self) -> None:
        """Do nothing: there are no files to delete."""


class BlockPass:
    """Walks the blocks in order: `collect` statistics of the current block, then `advance` to the next."""

    def __init__(self, model: Any, network: Network, samples: Samples, directory: Path, batch: int) -> None:
        """
        Args:
            model: the network; blocks run with the weights that they hold when `advance` is called.
            samples: calibration data.
            directory: directory of the statistics (`block-NNN.safetensors`) and the hidden states file.
            batch: samples of a forward pass.
        """
        self.model, self.network, self.directory, self.batch = model, network, directory, batch
        directory.mkdir(parents=True, exist_ok=True)
        self.count = len(samples)
        self.arguments = block_arguments(model, network, samples.rows(slice(0, 1)))
        for start in range(0, self.count, batch):
            states = embed(model, network, samples.rows(slice(start, start + batch))).float().cpu().numpy()
            if start == 0:
                # float32 even for half-precision models: numpy has no bfloat16.
                shape = (self.count, *states.shape[1:])
                try:
                    reserve_disk_space(directory / "hidden.tmp", math.prod(shape) * 4)
                except BaseException:
                    (directory / "hidden.tmp").unlink(missing_ok=True)
                    raise
                self.hidden = np.memmap(directory / "hidden.tmp", dtype=np.float32, mode="r+", shape=shape)
            self.hidden[start : start + batch] = states

    def _run(self, block: int, write: bool) -> None:
        layer = self.model.get_submodule(self.network.blocks[block])
        with torch.no_grad():
            for start in range(0, self.count, self.batch):
                rows = slice(start, start + self.batch)
                states = torch.from_numpy(self.hidden[rows]).to(self.model.device, self.model.dtype)
                args, kwargs = self.arguments[block]
                output = layer(states, *args, **kwargs)
                output = output[0] if isinstance(output, tuple) else output
                if write:
                    self.hidden[rows] = output.float().cpu().numpy()

    def collect(self, block: int) -> Path:
        """Write the input statistics of a block's matrices, `KEY:FIELD`."""
        path = statistics_path(self.directory, block)
        if is_intact(path):
            return path
        matrices = [m for m in self.network.matrices.values() if m.block == block]
        with Collector(self.model, matrices, self.hidden.shape[1], {block: self.network.blocks[block]}) as collector:
            self._run(block, write=False)
        return write_statistics(self.directory, block, collector.result())

    def advance(self, block: int) -> None:
        """Replace the hidden states by the block's outputs."""
        self._run(block, write=True)

    def close(self) -> None:
        """Delete the hidden states file."""
        del self.hidden
        (self.directory / "hidden.tmp").unlink(missing_ok=True)


def statistics_path(directory: Path, block: int) -> Path:
    """Return the path of a block's statistics."""
    return directory / f"block-{block:03d}.safetensors"


def write_statistics(directory: Path, block: int, tensors: dict[str, torch.Tensor]) -> Path:
    """Write a block's statistics by `KEY:FIELD`; returns the path."""
    path = statistics_path(directory, block)
    write_tensors(path, tensors)
    return path


def calibration_pass(
    model: Any, network: Network, samples: Samples, directory: Path, batch: int
) -> BlockPass | WholeModelPass:
    """Return a `BlockPass` if the network can run block by block, else a `WholeModelPass`."""
    return (BlockPass if network.blockwise else WholeModelPass)(model, network, samples, directory, batch)


def load_statistics(directory: Path, block: int) -> Statistics:
    """Return input statistics of a block's matrices, by `Matrix.input_key`; raises DamagedFile SS601."""
    tensors = read_tensors(statistics_path(directory, block), RECOLLECT)
    keys = {name.rpartition(":")[0] for name in tensors} - {f"block {block}"}
    return {k: InputStatistics(**{f: tensors[f"{k}:{f}"] for f in FIELDS if f"{k}:{f}" in tensors}) for k in keys}


def load_cosine_and_angle(directory: Path, block: int) -> tuple[float, float]:
    """Return the mean cosine, and the mean angle in units of π, between the input and the output of a block.

    Raises DamagedFile SS601.
    """
    tensors = read_tensors(statistics_path(directory, block), RECOLLECT)
    turns = tensors.get(f"block {block}:turns", torch.tensor([1.0, 0.0]))
    return float(turns[0]), float(turns[1])
