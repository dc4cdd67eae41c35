"""Running statistics of batch normalisation, corrected for a pruned network.

Pruning shifts the distributions in all later layers; without a correction, rankings of pruned convolutional networks
mean little (Li et al., EagleEye, 2020, arXiv 2007.02491). EagleEye replaces the statistics by those of a few
minibatches, which changes the dense network as well. Here the network's own statistics are shifted by the change that
pruning makes on these minibatches.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from sparsesearch.data.samples import Samples
from sparsesearch.models.task import Task
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet

# Mean and variance of every channel, (channels,) each.
Moments = tuple[torch.Tensor, torch.Tensor]


class RunningStatistics:
    """Corrects the running statistics of one supernet's candidates.

    With mean m and variance v measured on some samples in the pruned network, d and w in the dense one, and stored
    statistics μ and ν, all variances plus epsilon: the new variance is ν v / w and the new mean m + (μ - d) √(v / w).
    Standardised activations of a pruned channel then have the moments of the dense channel's, and an unpruned network
    keeps its statistics.
    """

    def __init__(self, supernet: StitchedSupernet, task: Task, samples: Samples, batch: int) -> None:
        self.supernet, self.task, self.samples, self.batch = supernet, task, samples, batch
        model = supernet.apply(supernet.space.dense)
        self._dense = self._measure(model) if batch_norms(model) else {}

    def correct(self, model: Any, genome: Genome) -> None:
        """Correct the statistics in a genome's network: the supernet's own, or one materialised, sliced or padded."""
        if not self._dense or genome == self.supernet.space.dense:
            return
        layers = batch_norms(model)
        stored = {path: _moments(layer) for path, layer in layers.items()}
        for path, (mean, variance) in self._measure(model).items():
            layer, (stored_mean, stored_variance) = layers[path], stored[path]
            dense_mean, dense_variance = self._dense_moments(genome, path, mean.shape)
            ratio = (variance + layer.eps) / (dense_variance + layer.eps)
            new_mean = mean + (stored_mean - dense_mean) * ratio.sqrt()
            _set(layer, (new_mean, ((stored_variance + layer.eps) * ratio - layer.eps).clamp(min=0)))

    def _dense_moments(self, genome: Genome, path: str, shape: torch.Size) -> Moments:
        """Return the moments measured in the dense layer, of the channels that the genome keeps."""
        mean, variance = self._dense[path]
        if mean.shape == shape:
            return mean, variance
        kept = self.supernet.composer.slice_value
        return kept(f"{path}.running_mean", genome, mean), kept(f"{path}.running_var", genome, variance)

    def _measure(self, model: Any) -> dict[str, Moments]:
        """Return moments over the samples by layer; the model's layers hold them afterwards."""
        reestimate(model, self.task, self.samples, self.batch)
        self.supernet.forget_running_statistics()
        return {path: _moments(layer) for path, layer in batch_norms(model).items()}


def batch_norms(model: torch.nn.Module) -> dict[str, _BatchNorm]:
    """Return the layers with running statistics, by path."""
    return {p: m for p, m in model.named_modules() if isinstance(m, _BatchNorm) and m.running_mean is not None}


def reestimate(model: Any, task: Task, samples: Samples, batch: int) -> None:
    """Set running means and variances to their averages over the minibatches of some samples; weights stay unchanged.

    A single last sample joins the minibatch before it, since one value has no variance.
    """
    starts = [start for start in range(0, len(samples), batch) if len(samples) - start > 1 or start == 0]
    layers = list(batch_norms(model).values())
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average
        layer.train()
    try:
        with torch.no_grad():
            for start, end in itertools.pairwise([*starts, len(samples)]):
                task.call(model, samples.rows(slice(start, end)).inputs(model))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()


def _moments(layer: _BatchNorm) -> Moments:
    assert layer.running_mean is not None and layer.running_var is not None
    return layer.running_mean.clone(), layer.running_var.clone()


def _set(layer: _BatchNorm, moments: Moments) -> None:
    assert layer.running_mean is not None and layer.running_var is not None
    layer.running_mean.copy_(moments[0])
    layer.running_var.copy_(moments[1])
