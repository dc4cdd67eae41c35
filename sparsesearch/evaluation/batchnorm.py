"""Running statistics of batch normalisation, measured again for a pruned network.

Pruning moves every distribution behind it; without this, rankings of pruned convolutional networks say little (Li et
al., EagleEye, 2020, arXiv 2007.02491).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from sparsesearch.calibration.samples import Samples
from sparsesearch.models.task import Task


def batch_norms(model: torch.nn.Module) -> list[_BatchNorm]:
    """The layers that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def reestimate(model: Any, task: Task, samples: Samples, batch: int) -> None:
    """Set running means and variances to their averages over the minibatches of some samples; weights stay."""
    layers = batch_norms(model)
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average
        layer.train()
    try:
        with torch.no_grad():
            for start in range(0, len(samples), batch):
                task.call(model, samples.rows(slice(start, start + batch)).inputs(model))
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.eval()
