"""One pass over calibration data, block by block, that collects what local pruners need.

Only one block's activations are ever in memory, a minibatch at a time: the hidden states between blocks live in a
memory-mapped file. Statistics of a block are written before its outputs are computed, so an interrupted pass repeats
forward passes but no finished collection.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sparsesearch.calibration.data import Tokens
from sparsesearch.models.architecture import Architecture

Statistics = dict[str, torch.Tensor]


class _Captured(Exception):
    """Ends a forward pass early."""


def block_kwargs(model: Any, architecture: Architecture, length: int) -> list[dict[str, Any]]:
    """The keyword arguments (masks, rotary embeddings, positions) that each block gets for windows of `length`."""
    captured: dict[int, dict[str, Any]] = {}
    hooks = []
    for index, path in enumerate(architecture.blocks):

        def hook(_: nn.Module, __: Any, kwargs: dict[str, Any], index: int = index) -> None:
            captured[index] = {k: v for k, v in kwargs.items() if k != "past_key_values"}

        hooks.append(model.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True))
    try:
        with torch.no_grad():
            model(torch.zeros((1, length), dtype=torch.long, device=model.device), use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()
    return [captured[index] for index in range(len(architecture.blocks))]


def embed(model: Any, architecture: Architecture, tokens: torch.Tensor) -> torch.Tensor:
    """What the first block reads for tokens (batch, length): hidden states (batch, length, hidden)."""
    found: list[torch.Tensor] = []

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])
        raise _Captured

    handle = model.get_submodule(architecture.blocks[0]).register_forward_pre_hook(hook, with_kwargs=True)
    try:
        model(tokens, use_cache=False)
    except _Captured:
        pass
    finally:
        handle.remove()
    return found[0]


class BlockPass:
    """Walks the blocks in order: `collect` statistics of the current block, then `advance` to the next."""

    def __init__(self, model: Any, architecture: Architecture, tokens: Tokens, directory: Path, batch: int) -> None:
        """
        Args:
            model: the network; blocks run with whatever weights they hold when `advance` is called.
            tokens: calibration windows, shape (sequences, length).
            directory: where statistics (`block-NNN.safetensors`) and the hidden states file are written.
            batch: windows a forward pass.
        """
        self.model, self.architecture, self.directory, self.batch = model, architecture, directory, batch
        directory.mkdir(parents=True, exist_ok=True)
        self.count = len(tokens)
        self.kwargs = block_kwargs(model, architecture, tokens.shape[1])
        shape = (*tokens.shape, architecture.hidden)
        # float32 even for half-precision models: numpy has no bfloat16.
        self.hidden = np.memmap(directory / "hidden.tmp", dtype=np.float32, mode="w+", shape=shape)
        with torch.no_grad():
            for start in range(0, self.count, batch):
                ids = torch.from_numpy(tokens[start : start + batch].astype(np.int64)).to(model.device)
                self.hidden[start : start + batch] = embed(model, architecture, ids).float().cpu().numpy()

    def _run(self, block: int, write: bool) -> None:
        layer = self.model.get_submodule(self.architecture.blocks[block])
        with torch.no_grad():
            for start in range(0, self.count, self.batch):
                rows = slice(start, start + self.batch)
                states = torch.from_numpy(self.hidden[rows]).to(self.model.device, self.model.dtype)
                output = layer(states, **self.kwargs[block])
                if write:
                    self.hidden[rows] = output.float().cpu().numpy()

    def collect(self, block: int) -> Path:
        """Write E[x xᵀ] of every distinct linear input of a block, float32 (inputs, inputs), keyed by linear path."""
        path = statistics_path(self.directory, block)
        if path.exists():
            return path
        sums: Statistics = {}
        hooks = []
        for sublayer in self.architecture.sublayers:
            for linear in sublayer.linears:
                if sublayer.block == block and linear.reads == linear.path:

                    def hook(_: nn.Module, args: tuple[Any, ...], name: str = linear.path) -> None:
                        inputs = args[0].flatten(0, -2).float()
                        product = inputs.T @ inputs
                        sums[name] = sums[name].add_(product) if name in sums else product

                    hooks.append(self.model.get_submodule(linear.path).register_forward_pre_hook(hook))
        try:
            self._run(block, write=False)
        finally:
            for handle in hooks:
                handle.remove()
        tokens = self.count * self.hidden.shape[1]
        temporary = path.with_suffix(".tmp")
        save_file({name: (total / tokens).cpu().contiguous() for name, total in sums.items()}, temporary)
        temporary.replace(path)
        return path

    def advance(self, block: int) -> None:
        """Replace the hidden states by the block's outputs."""
        self._run(block, write=True)

    def close(self) -> None:
        """Delete the hidden states file."""
        del self.hidden
        (self.directory / "hidden.tmp").unlink(missing_ok=True)


def statistics_path(directory: Path, block: int) -> Path:
    """Where a block's statistics are written."""
    return directory / f"block-{block:03d}.safetensors"


def load_statistics(directory: Path, block: int) -> Statistics:
    """Second moments of a block's linear inputs, by the path of the linear that reads them."""
    statistics: Statistics = load_file(statistics_path(directory, block))
    return statistics
