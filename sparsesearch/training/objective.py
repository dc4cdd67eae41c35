"""What training minimises: the task's own loss, and how far the network is from the dense one."""

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

# Outputs of a network, and of its blocks where they are compared.
Outputs = tuple[torch.Tensor, list[torch.Tensor]]


class Objective:
    """A loss of a minibatch.

    (1 - d) times the task's loss + d T² KL(dense ‖ network), both softened by the temperature T (Hinton et al., 2015)
    + h times the mean relative squared difference of the blocks' outputs. Where outputs are no distribution, as those
    of embeddings and of heads with one output, their relative squared difference stands for the KL divergence.
    """

    def __init__(self, network: Network, dense: Any, options: TrainingConfig) -> None:
        """
        Args:
            dense: the dense network, which is not trained; None where nothing is distilled.
        """
        self.network, self.dense, self.options = network, dense, options

    def __call__(self, model: Any, samples: Samples) -> torch.Tensor:
        """The loss of the network on samples, a scalar."""
        return self.loss(self.outputs(model, samples), self.wanted(samples), samples)

    def outputs(self, model: Any, samples: Samples) -> Outputs:
        """What a network puts out, and its blocks where they are compared."""
        with _block_outputs(model, self.network, bool(self.options.hidden)) as blocks:
            return self.network.task.call(model, samples.inputs(model)), blocks

    def wanted(self, samples: Samples) -> Outputs | None:
        """What the dense network puts out; None where nothing is distilled."""
        if self.dense is None:
            return None
        with torch.no_grad():
            return self.outputs(self.dense, samples)

    def loss(self, found: Outputs, wanted: Outputs | None, samples: Samples) -> torch.Tensor:
        """The loss of what a network puts out, a scalar."""
        task, options = self.network.task, self.options
        outputs, own = found
        total = outputs.new_zeros(())
        if options.distill < 1:
            total = total + (1 - options.distill) * loss(task, outputs, samples)
        if wanted is None:
            return total
        theirs, blocks = wanted
        if options.distill:
            known = self.network.distribution
            apart = softened_kl(outputs, theirs, options.temperature) if known else relative(outputs, theirs)
            total = total + options.distill * apart
        if options.hidden:
            pairs = zip(own, blocks, strict=True)
            total = total + options.hidden * torch.stack([relative(mine, dense) for mine, dense in pairs]).mean()
        return total


def softened_kl(logits: torch.Tensor, dense: torch.Tensor, temperature: float) -> torch.Tensor:
    """T² KL(dense ‖ logits) of softmax(· / T), mean over positions; logits (samples, positions, values)."""
    own = functional.log_softmax(logits / temperature, dim=-1).flatten(0, -2)
    theirs = functional.log_softmax(dense / temperature, dim=-1).flatten(0, -2)
    return functional.kl_div(own, theirs, reduction="batchmean", log_target=True) * temperature**2


def relative(own: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """|own - dense|² / |dense|², a scalar."""
    return (own.float() - dense.float()).square().sum() / dense.float().square().sum().clamp_min(1e-30)


@contextmanager
def _block_outputs(model: Any, network: Network, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """The outputs of all blocks of the forward passes inside, where wanted."""
    found: list[torch.Tensor] = []
    own = dict(model.named_modules())
    paths = [p for path in network.blocks for p in (path, f"base_model.model.{path}") if p in own] if wanted else []

    def hook(_: Any, __: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    handles = [own[path].register_forward_hook(hook) for path in paths]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
