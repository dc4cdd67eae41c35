"""Blocks whose output differs more from their input keep more, a small step at a time."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import project
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence, require
from sparsesearch.arrays import Floats

LARGEST_SPARSITY = 0.99


def adapt_pruner(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """Adapt-Pruner (Pan et al., 2025, arXiv 2502.03460): s ← clip(s + Δ - A I, 0, 0.99) in `adapt_steps` steps.

    I is minus the cosine of a block's input and output, centred and divided by its largest absolute value; A is
    `adapt_amplitude`. The paper takes about 50 steps and measures I again after each; here the dense model's cosines
    serve all steps, so the deviations from the mean add up to `adapt_steps` times one step's. Δ is chosen so that the
    sparsity after step t of T is exactly S t / T, even if densities are clipped.

    Returns:
        Densities, (M,), in [min(0.01, 1 - sparsity), 1].
    """
    influence = -require(evidence.cosines)[evidence.blocks]
    centred = influence - np.average(influence, weights=evidence.sizes)
    step = options.adapt_amplitude * centred / max(float(np.abs(centred).max()), np.finfo(np.float64).tiny)
    min_density = min(1 - LARGEST_SPARSITY, 1 - sparsity)
    density = np.ones(len(step))
    for step_number in range(1, options.adapt_steps + 1):
        density = project(density + step, evidence.sizes, sparsity * step_number / options.adapt_steps, min_density)
    return density
