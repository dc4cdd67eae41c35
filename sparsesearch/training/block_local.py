"""Block-local nested distillation: each block learns alone to do at every size what the dense block does.

Inputs are the dense network's, from disk, so blocks know nothing of each other and train side by side, each in the
memory of one (Puzzle's decoupled distillation, Bercovich et al., 2024, arXiv 2411.19146, over nested sizes).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from sparsesearch.config import SupernetConfig
from sparsesearch.data.samples import Samples
from sparsesearch.models.network import Network
from sparsesearch.space import Genome, Space
from sparsesearch.supernet.draws import Draws
from sparsesearch.supernet.elastic import Elastic
from sparsesearch.training.activations import Activations
from sparsesearch.training.nested import NestedRun, Rows
from sparsesearch.training.objective import Objective, relative
from sparsesearch.training.weights import Weights


def block_tensors(model: Any, path: str) -> dict[str, torch.Tensor]:
    """All parameters and buffers of a block, by their names in it; also those that checkpoints leave out."""
    block = model.get_submodule(path)
    return {n: t.detach().cpu().contiguous().clone() for n, t in (*block.named_parameters(), *block.named_buffers())}


def only_block(skeleton: Any, path: str, tensors: dict[str, torch.Tensor], device: str = "cpu") -> Any:
    """A network on the meta device with one block that is really there, float32."""
    block = skeleton.get_submodule(path).to_empty(device="cpu")
    own = dict(block.named_parameters()) | dict(block.named_buffers())
    for name, tensor in tensors.items():
        own[name].data = tensor.float() if tensor.is_floating_point() else tensor
    block.to(device)
    return skeleton.eval()


class BlockRun(NestedRun):
    """Trains one block at the sizes that `draws` names, towards the dense block's outputs."""

    def __init__(
        self,
        skeleton: Any,
        network: Network,
        space: Space,
        block: int,
        activations: Activations,
        samples: Samples,
        options: SupernetConfig,
        steps: int,
        compute: torch.dtype = torch.float32,
    ) -> None:
        """
        Args:
            skeleton: of `only_block`.
            samples: whose hidden states `activations` has.
        """
        weights = Weights(skeleton, _alone(network, block), options.weights, options.training)
        path = network.blocks[block] + "."
        weights.parameters = {n: p for n, p in weights.parameters.items() if n.startswith(path)}
        elastic = Elastic(skeleton, network, space, weights.tensor, options.execution, block)
        draws = Draws(space, options, steps, options.training.seed, block)
        objective = Objective(network, None, options.training)
        device = next(skeleton.get_submodule(network.blocks[block]).parameters()).device
        self.activations, self._device = activations, device
        self._given = moved(activations.arguments(), device)
        super().__init__(weights, elastic, draws, objective, samples, options, compute)

    def nested_losses(self, rows: Rows, genomes: list[Genome]) -> Iterator[torch.Tensor]:
        """Of each size, |f(x) - f_dense(x)|² / |f_dense(x)|²."""
        inputs, wanted = (states.to(self._device, torch.float32) for states in self.activations.rows(rows))
        args, kwargs = self._given
        for genome in genomes:
            with self._cast, self.elastic.running(genome) as running:
                output = running(inputs, *args, **kwargs)
            yield relative(output[0] if isinstance(output, tuple) else output, wanted)


def moved(value: Any, device: torch.device) -> Any:
    """A nest of tuples and dictionaries with its tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(moved(each, device) for each in value)
    return {k: moved(v, device) for k, v in value.items()} if isinstance(value, dict) else value


def _alone(network: Network, block: int) -> Network:
    """The description of one block's matrices."""
    return replace(network, matrices={n: m for n, m in network.matrices.items() if m.block == block})
