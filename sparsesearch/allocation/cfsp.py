"""Blocks that turn their input further keep more."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import project
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence, require
from sparsesearch.arrays import Floats

# The paper's importance is a sum over tokens; means are scaled as if they came from 128 windows of 2,048.
PAPER_TOKENS = 128 * 2048
# Divides deviations from the mean if a density would exceed 1, as the paper's code does.
SHRINK = 1.05


def cfsp(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """CFSP's coarse step (Wang et al., 2025, arXiv 2409.13199): density ∝ sigmoid(a (I - mean I) / 10⁴).

    I is the angle between a block's input and output in units of π, summed over tokens; a is `cfsp_intensity`. If a
    density would exceed 1, deviations from the mean shrink until the largest density is (1 - S) + S / 1.05. Means are
    over weights.

    Returns:
        Densities, (M,), in [0, 1].
    """
    angle = require(evidence.angles)[evidence.blocks]
    centred = angle - np.average(angle, weights=evidence.sizes)
    # tanh does not overflow: sigmoid(x) = (1 + tanh(x / 2)) / 2.
    share = 1 + np.tanh(options.cfsp_intensity * PAPER_TOKENS / 1e4 * centred / 2)
    keep = 1 - sparsity
    density = keep * share / np.average(share, weights=evidence.sizes)
    if density.max() > 1:
        density = keep + (density - keep) * sparsity / SHRINK / (density.max() - keep)
    return project(density, evidence.sizes, sparsity)
