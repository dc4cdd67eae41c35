"""The training loss: the task's own loss, and the distance of the network's outputs from those of the dense one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from sparsesearch.calibration.gradients import loss
from sparsesearch.config import TrainingConfig
from sparsesearch.data.samples import Samples
from sparsesearch.models.network import Network

# Outputs of a network (samples, positions, values), and of its blocks (samples, positions, hidden) if these are
# compared.
Outputs = tuple[torch.Tensor, list[torch.Tensor]]


class Objective:
    """The loss of a minibatch.

    (1 - d) times the task's loss + d T² KL(dense ‖ network), both softened by the temperature T (Hinton et al., 2015)
    + h times the mean relative squared difference of the blocks' outputs. If outputs are not a distribution, as those
    of embeddings and of heads with one output, their relative squared difference replaces the KL divergence.
    """

    def __init__(self, network: Network, dense: Any, options: TrainingConfig) -> None:
        """
        Args:
            dense: the dense network, which is not trained; None if nothing is distilled.
        """
        self.network, self.dense, self.options = network, dense, options

    def __call__(self, model: Any, samples: Samples) -> torch.Tensor:
        """Return the loss of the network on samples, a scalar."""
        return self.loss(self.outputs(model, samples), self.targets(samples), samples)

    def outputs(self, model: Any, samples: Samples) -> Outputs:
        """Return the outputs of a network, and those of its blocks if these are compared."""
        with _block_outputs(model, self.network, bool(self.options.hidden)) as blocks:
            return self.network.task.call(model, samples.inputs(model)), blocks

    def targets(self, samples: Samples) -> Outputs | None:
        """Return the outputs of the dense network; None if nothing is distilled."""
        if self.dense is None:
            return None
        with torch.no_grad():
            return self.outputs(self.dense, samples)

    def loss(self, outputs: Outputs, targets: Outputs | None, samples: Samples) -> torch.Tensor:
        """Return the loss of a network's outputs, a scalar."""
        task, options = self.network.task, self.options
        values, blocks = outputs
        total = values.new_zeros(())
        if options.distill < 1:
            total = total + (1 - options.distill) * loss(task, values, samples)
        if targets is None:
            return total
        dense_values, dense_blocks = targets
        if options.distill:
            if self.network.distribution:
                distance = softened_kl(values, dense_values, options.temperature)
            else:
                distance = relative_squared_error(values, dense_values)
            total = total + options.distill * distance
        if options.hidden:
            pairs = zip(blocks, dense_blocks, strict=True)
            errors = torch.stack([relative_squared_error(block, dense) for block, dense in pairs])
            total = total + options.hidden * errors.mean()
        return total


def softened_kl(logits: torch.Tensor, dense: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return T² KL(dense ‖ logits) of softmax(· / T), mean over positions; both (samples, positions, values)."""
    log_probs = functional.log_softmax(logits / temperature, dim=-1).flatten(0, -2)
    dense_log_probs = functional.log_softmax(dense / temperature, dim=-1).flatten(0, -2)
    return functional.kl_div(log_probs, dense_log_probs, reduction="batchmean", log_target=True) * temperature**2


def relative_squared_error(outputs: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """Return |outputs - dense|² / |dense|², a scalar; both of one shape, any."""
    return (outputs.float() - dense.float()).square().sum() / dense.float().square().sum().clamp_min(1e-30)


@contextmanager
def _block_outputs(model: Any, network: Network, enabled: bool) -> Iterator[list[torch.Tensor]]:
    """Collect the outputs of all blocks in the forward passes inside, if enabled."""
    outputs: list[torch.Tensor] = []
    modules = dict(model.named_modules())
    paths: list[str] = []
    if enabled:  # peft puts the network inside `base_model.model`
        paths = [p for path in network.blocks for p in (path, f"base_model.model.{path}") if p in modules]

    def hook(_: Any, __: Any, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handles = [modules[path].register_forward_hook(hook) for path in paths]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
