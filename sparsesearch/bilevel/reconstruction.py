"""The loss of every block on its own inputs: the distance of its outputs from those of the dense block."""

from __future__ import annotations

from typing import Any

import torch

from sparsesearch.bilevel.relaxed import RelaxedNetwork
from sparsesearch.data.samples import Samples
from sparsesearch.models.network import Network
from sparsesearch.training.objective import relative_squared_error


class BlockLoss:
    """Mean over blocks of |f(x) - f_dense(x)|² / |f_dense(x)|² on the output x of the block before (BESA, eq. 4).

    Gradients do not cross blocks.
    """

    def __init__(self, network: Network, relaxed: RelaxedNetwork, dense: Any) -> None:
        """
        Args:
            dense: the dense network, whose blocks run on the same inputs.
        """
        self.network, self.relaxed, self.dense = network, relaxed, dense

    def __call__(self, tensors: dict[str, torch.Tensor], samples: Samples) -> torch.Tensor:
        """Return the loss, a scalar, of the network that runs with these tensors."""
        losses: list[torch.Tensor] = []
        model, handles = self.relaxed.weights.model, []
        for path in self.network.blocks:
            block, dense = model.get_submodule(path), self.dense.get_submodule(path)

            def detach_inputs(
                _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
            ) -> tuple[tuple[Any, ...], dict[str, Any]]:
                return _detach(args), {name: _detach((value,))[0] for name, value in kwargs.items()}

            def compare(_: Any, args: Any, kwargs: Any, output: Any, dense: Any = dense) -> None:
                with torch.no_grad():
                    dense_output = dense(*args, **kwargs)
                losses.append(relative_squared_error(_first(output), _first(dense_output)))

            handles.append(block.register_forward_pre_hook(detach_inputs, with_kwargs=True))
            handles.append(block.register_forward_hook(compare, with_kwargs=True))
        try:
            self.network.task.call(self.relaxed.with_tensors(tensors), samples.inputs(model))
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(losses).mean()


def _detach(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.detach() if isinstance(value, torch.Tensor) else value for value in values)


def _first(output: Any) -> torch.Tensor:
    tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return tensor
