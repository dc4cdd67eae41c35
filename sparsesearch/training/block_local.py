"""Block-local nested distillation: each block learns alone to compute at every size what the dense block computes.

Inputs are the dense network's, from disk, so blocks do not depend on each other and train side by side, each with only
one block in memory (Puzzle's decoupled distillation, Bercovich et al., 2024, arXiv 2411.19146, over nested sizes).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from sparsesearch.config import SupernetConfig
from sparsesearch.data.samples import Samples
from sparsesearch.models.network import Network
from sparsesearch.space import Genome, Space
from sparsesearch.supernet.draws import Draws
from sparsesearch.supernet.elastic import ElasticSupernet
from sparsesearch.training.activations import Activations
from sparsesearch.training.nested import NestedRun, Rows
from sparsesearch.training.objective import Objective, relative_squared_error
from sparsesearch.training.weights import Weights


def block_tensors(model: Any, path: str) -> dict[str, torch.Tensor]:
    """Return copies of all parameters and buffers of a block by their names in it, also those not in checkpoints."""
    block = model.get_submodule(path)
    return {n: t.detach().cpu().contiguous().clone() for n, t in (*block.named_parameters(), *block.named_buffers())}


def materialise_block(skeleton: Any, path: str, tensors: dict[str, torch.Tensor], device: str = "cpu") -> Any:
    """Return a network on the meta device in which one block is really in memory, in float32."""
    block = skeleton.get_submodule(path).to_empty(device="cpu")
    block_state = dict(block.named_parameters()) | dict(block.named_buffers())
    for name, tensor in tensors.items():
        block_state[name].data = tensor.float() if tensor.is_floating_point() else tensor
    block.to(device)
    return skeleton.eval()


@dataclass(frozen=True)
class LocalBlock:
    """A block that can be trained without the rest of its network.

    Attributes:
        skeleton: network in which only this block is in memory, as `materialise_block` returns it.
        network: description of the whole network.
        index: index of the block.
        activations: hidden states before and after the dense block.
    """

    skeleton: Any
    network: Network
    index: int
    activations: Activations

    @property
    def path(self) -> str:
        """Dotted path of the block."""
        return self.network.blocks[self.index]


class BlockRun(NestedRun):
    """Trains one block at the sizes that `draws` gives, towards the dense block's outputs."""

    def __init__(
        self,
        block: LocalBlock,
        space: Space,
        samples: Samples,
        options: SupernetConfig,
        steps: int,
        compute: torch.dtype = torch.float32,
    ) -> None:
        """
        Args:
            samples: samples whose hidden states `block.activations` has.
            steps: steps of the whole training.
        """
        network, index = block.network, block.index
        weights = Weights(block.skeleton, _with_block_matrices(network, index), options.weights, options.training)
        weights.parameters = {n: p for n, p in weights.parameters.items() if n.startswith(f"{block.path}.")}
        elastic = ElasticSupernet(block.skeleton, network, space, weights.tensor, options.execution, index)
        draws = Draws(space, options, steps, options.training.seed, index)
        objective = Objective(network, None, options.training)
        self.activations = block.activations
        self._device = next(block.skeleton.get_submodule(block.path).parameters()).device
        self._arguments = to_device(block.activations.arguments(), self._device)
        super().__init__(weights, elastic, draws, objective, samples, options, compute)

    def nested_losses(self, rows: Rows, genomes: list[Genome]) -> Iterator[torch.Tensor]:
        """Yield |f(x) - f_dense(x)|² / |f_dense(x)|², a scalar, for each size on the samples `rows` (batch,)."""
        inputs, dense_outputs = (states.to(self._device, torch.float32) for states in self.activations.rows(rows))
        args, kwargs = self._arguments
        for genome in genomes:
            with self._cast, self.elastic.running(genome) as running:
                output = running(inputs, *args, **kwargs)
            yield relative_squared_error(output[0] if isinstance(output, tuple) else output, dense_outputs)


def to_device(value: Any, device: torch.device) -> Any:
    """Return nested tuples and dictionaries with their tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(to_device(item, device) for item in value)
    return {k: to_device(v, device) for k, v in value.items()} if isinstance(value, dict) else value


def _with_block_matrices(network: Network, block: int) -> Network:
    """Return the description with the matrices of one block only."""
    return replace(network, matrices={n: m for n, m in network.matrices.items() if m.block == block})
