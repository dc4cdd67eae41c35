"""The dense network's hidden states on disk: what goes into each block and what comes out of it, in shards of samples.

NNN-BBB.safetensors    `hidden` (samples, positions, hidden) that go into block B, for the samples of shard N; for
                       B = blocks, what comes out of the last one
arguments.json         what else each block is given, tensors by their names in `arguments.safetensors`
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

# Samples of a shard.
SHARD = 64


def shards(count: int) -> list[tuple[int, int, int]]:
    """(number, first sample, behind the last sample) of each shard."""
    return [(i // SHARD, i, min(i + SHARD, count)) for i in range(0, count, SHARD)]


def cache_bytes(network: Network, samples: Samples, count: int, width: int) -> int:
    """Disk for the hidden states of `count` samples, `width` bytes a number."""
    # Of an image, as many as attention has queries; of tokens, it knows one.
    positions = max([samples.length, *(attention.queries for attention in network.attentions)])
    return (len(network.blocks) + 1) * count * positions * network.hidden * width


def write_arguments(directory: Path, model: Any, network: Network, samples: Samples) -> None:
    """Write what blocks are given beside hidden states."""
    tensors: dict[str, torch.Tensor] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            tensors[name := str(len(tensors))] = value.cpu().contiguous().clone()
            return {"tensor": name}
        if isinstance(value, (tuple, list)):
            return {"tuple": [plain(each) for each in value]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return {"value": value}
        raise TypeError(f"a block is given a {type(value).__name__}")

    given = [
        {"args": [plain(a) for a in args], "kwargs": {k: plain(v) for k, v in kwargs.items()}}
        for args, kwargs in block_arguments(model, network, samples.rows(slice(0, 1)))
    ]
    write_tensors(directory / "arguments.safetensors", tensors)
    write_json(directory / "arguments.json", {"blocks": given}, durable=False)


def write_shard(directory: Path, model: Any, network: Network, samples: Samples, shard: int, batch: int) -> None:
    """Run the network on a shard's samples and write what blocks see; nothing where it is written already."""
    paths = [directory / _name(shard, block) for block in range(len(network.blocks) + 1)]
    if all(is_intact(path) for path in paths):
        return
    found: list[list[torch.Tensor]] = [[] for _ in range(len(network.blocks) + 1)]
    layers = [model.get_submodule(path) for path in network.blocks]

    def entering(block: int) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found[block].append((args[0] if args else kwargs["hidden_states"]).detach().cpu())

        return hook

    def leaving(_: Any, __: Any, output: Any) -> None:
        found[-1].append((output[0] if isinstance(output, tuple) else output).detach().cpu())

    hooks = [layer.register_forward_pre_hook(entering(b), with_kwargs=True) for b, layer in enumerate(layers)]
    hooks.append(layers[-1].register_forward_hook(leaving))
    try:
        for start in range(0, len(samples), batch):
            outputs(model, network, samples.rows(slice(start, start + batch)))
    finally:
        for hook in hooks:
            hook.remove()
    for path, states in zip(paths, found, strict=True):
        write_tensors(path, {"hidden": torch.cat(states)})


def _name(shard: int, block: int) -> str:
    return f"{shard:05d}-{block:03d}.safetensors"


class Activations:
    """What one block sees; files stay memory-mapped, only the rows that are asked for are read."""

    def __init__(self, directory: Path, block: int) -> None:
        self.directory, self.block = directory, block
        self._open: dict[str, Any] = {}

    def rows(self, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states that go into the block, and that come out of the dense one, (samples, positions, hidden)."""
        inputs, wanted = ([self._row(int(row), self.block + side) for row in rows] for side in (0, 1))
        return torch.cat(inputs), torch.cat(wanted)

    def _row(self, row: int, block: int) -> torch.Tensor:
        name = _name(row // SHARD, block)
        if name not in self._open:
            self._open[name] = safe_open(self.directory / name, framework="pt")
        within = row % SHARD
        states: torch.Tensor = self._open[name].get_slice("hidden")[within : within + 1]
        return states

    def arguments(self) -> BlockArguments:
        """What else the block is given."""
        tensors = read_tensors(self.directory / "arguments.safetensors")
        given = read_json(self.directory / "arguments.json")["blocks"][self.block]

        def back(value: dict[str, Any]) -> Any:
            if "tensor" in value:
                return tensors[value["tensor"]]
            return tuple(back(each) for each in value["tuple"]) if "tuple" in value else value["value"]

        return tuple(back(a) for a in given["args"]), {k: back(v) for k, v in given["kwargs"].items()}
