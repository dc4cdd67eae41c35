"""The dense network's hidden states on disk: the input and output of each block, in shards of samples.

NNN-BBB.safetensors    `hidden` (samples, positions, hidden), the input of block B for the samples of shard N; for
                       B = number of blocks, the output of the last block
arguments.json         the further arguments of each block; tensors by their names in `arguments.safetensors`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from sparsesearch.calibration.statistics import BlockArguments, block_arguments, outputs
from sparsesearch.data.samples import Samples
from sparsesearch.files import read_json, write_json
from sparsesearch.models.network import Network
from sparsesearch.tensors import is_intact, read_tensors, write_tensors

SAMPLES_PER_SHARD = 64


def shards(count: int) -> list[tuple[int, int, int]]:
    """Return (number, first sample, end: one after the last sample) of each shard of `count` samples."""
    starts = range(0, count, SAMPLES_PER_SHARD)
    return [(i // SAMPLES_PER_SHARD, i, min(i + SAMPLES_PER_SHARD, count)) for i in starts]


def cache_bytes(network: Network, samples: Samples, count: int, width: int) -> int:
    """Return the disk space, in bytes, for hidden states of `count` samples at `width` bytes per number."""
    # An image has as many positions as attention has queries; for tokens, attention counts one query.
    positions = max([samples.length, *(attention.queries for attention in network.attentions)])
    return (len(network.blocks) + 1) * count * positions * network.hidden * width


def write_arguments(directory: Path, model: Any, network: Network, samples: Samples) -> None:
    """Write the arguments of blocks other than hidden states."""
    tensors: dict[str, torch.Tensor] = {}

    def encode(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            tensors[name := str(len(tensors))] = value.cpu().contiguous().clone()
            return {"tensor": name}
        if isinstance(value, (tuple, list)):
            return {"tuple": [encode(item) for item in value]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return {"value": value}
        raise TypeError(f"a block takes an argument of type {type(value).__name__}, which cannot be stored")

    arguments = [
        {"args": [encode(a) for a in args], "kwargs": {k: encode(v) for k, v in kwargs.items()}}
        for args, kwargs in block_arguments(model, network, samples.rows(slice(0, 1)))
    ]
    write_tensors(directory / "arguments.safetensors", tensors)
    write_json(directory / "arguments.json", {"blocks": arguments}, durable=False)


def write_shard(directory: Path, model: Any, network: Network, samples: Samples, shard: int, batch: int) -> None:
    """Run the network on a shard's samples and write the hidden states, unless all files exist."""
    paths = [directory / _name(shard, block) for block in range(len(network.blocks) + 1)]
    if all(is_intact(path) for path in paths):
        return
    states: list[list[torch.Tensor]] = [[] for _ in range(len(network.blocks) + 1)]
    layers = [model.get_submodule(path) for path in network.blocks]

    def input_hook(block: int) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states[block].append((args[0] if args else kwargs["hidden_states"]).detach().cpu())

        return hook

    def output_hook(_: Any, __: Any, output: Any) -> None:
        states[-1].append((output[0] if isinstance(output, tuple) else output).detach().cpu())

    hooks = [layer.register_forward_pre_hook(input_hook(b), with_kwargs=True) for b, layer in enumerate(layers)]
    hooks.append(layers[-1].register_forward_hook(output_hook))
    try:
        for start in range(0, len(samples), batch):
            outputs(model, network, samples.rows(slice(start, start + batch)))
    finally:
        for hook in hooks:
            hook.remove()
    for path, batches in zip(paths, states, strict=True):
        write_tensors(path, {"hidden": torch.cat(batches)})


def _name(shard: int, block: int) -> str:
    return f"{shard:05d}-{block:03d}.safetensors"


class Activations:
    """The hidden states before and after one block; files stay memory-mapped, only requested rows are read."""

    def __init__(self, directory: Path, block: int) -> None:
        self.directory, self.block = directory, block
        self._open: dict[str, Any] = {}

    def rows(self, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return input and dense output of the block, (batch, positions, hidden) each, for samples `rows` (batch,)."""
        inputs, dense_outputs = ([self._row(int(row), self.block + side) for row in rows] for side in (0, 1))
        return torch.cat(inputs), torch.cat(dense_outputs)

    def _row(self, row: int, block: int) -> torch.Tensor:
        name = _name(row // SAMPLES_PER_SHARD, block)
        if name not in self._open:
            self._open[name] = safe_open(self.directory / name, framework="pt")
        within = row % SAMPLES_PER_SHARD
        states: torch.Tensor = self._open[name].get_slice("hidden")[within : within + 1]
        return states

    def arguments(self) -> BlockArguments:
        """Return the block's further positional and keyword arguments."""
        tensors = read_tensors(self.directory / "arguments.safetensors")
        stored = read_json(self.directory / "arguments.json")["blocks"][self.block]

        def decode(value: dict[str, Any]) -> Any:
            if "tensor" in value:
                return tensors[value["tensor"]]
            return tuple(decode(item) for item in value["tuple"]) if "tuple" in value else value["value"]

        return tuple(decode(a) for a in stored["args"]), {k: decode(v) for k, v in stored["kwargs"].items()}
