"""Conformance of allocations, on evidence of small random matrices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sparsesearch.allocation import ALLOCATIONS, AllocationConfig, Evidence, allocation_named, evidence, project
from sparsesearch.allocation.base import MEASURED
from sparsesearch.arrays import Floats

SHAPES = ((24, 16), (8, 16), (40, 12), (16, 16), (6, 5), (32, 20), (10, 4, 3, 3))
BLOCKS = (0, 0, 1, 1, 2, 2, 3)
SPARSITIES = (0.01, 0.3, 0.5, 0.7, 0.85, 0.95, 0.995, 1.0)


def weights_of(shapes: tuple[tuple[int, ...], ...] = SHAPES, seed: int = 0) -> list[torch.Tensor]:
    """Return random weights of these shapes, whose scale and tails differ from matrix to matrix."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).pow(1 + 2 * (i % 3)) * (1 + i) for i, shape in enumerate(shapes)]


def evidence_of(
    shapes: tuple[tuple[int, ...], ...] = SHAPES, blocks: tuple[int, ...] = BLOCKS, seed: int = 0
) -> Evidence:
    """Return all evidence on `weights_of` these shapes, each in its block; angles and cosines are drawn."""
    weights, rng = weights_of(shapes, seed), np.random.default_rng(seed)
    flat = [w.flatten(1) for w in weights]
    count = max(blocks) + 1
    return Evidence(
        names=tuple(f"m{i}.sparsity" for i in range(len(shapes))),
        sizes=np.array([w.numel() for w in weights]),
        dims=shapes,
        blocks=np.array(blocks),
        magnitudes=tuple(evidence.magnitudes(w) for w in weights),
        lamp_thresholds=tuple(evidence.lamp_thresholds(w) for w in weights),
        outliers=np.concatenate([evidence.outliers([w], [torch.ones(w.shape[1])], 2.0) for w in flat]),
        tail_exponent=np.array([evidence.tail_exponent(w) for w in flat]),
        angles=rng.uniform(0.05, 0.5, count),
        cosines=rng.uniform(0.2, 1.0, count),
        gradient_square=np.array([evidence.gradient_square(w, torch.ones_like(w)) for w in weights]),
        pq_index=np.array([evidence.pq(w) for w in weights]),
    )


def check_allocation(name: str) -> None:
    """Check a registered allocation.

    - Densities are in [0, 1] and meet the sparsity to within one weight; with a single matrix they meet it exactly.
    - Nothing is removed at sparsity 0, and a higher sparsity never keeps more.
    - The same evidence gives the same densities.
    - The rule reads all the evidence that it declares in `needs`, and no other.

    Raises AssertionError, or InputError SS102.
    """
    for seed in (0, 1):
        _check_budget(name, evidence_of(seed=seed))
    _check_purity(name, evidence_of())
    _check_order(name, evidence_of())
    _check_needs(name, evidence_of())
    single = _densities(name, evidence_of(((10, 20),), (0,)), 0.6)
    assert np.allclose(single, 0.4), f"one matrix keeps exactly the budget, got {single}"


def _densities(name: str, given: Evidence, sparsity: float) -> Floats:
    return allocation_named(name).densities(given, sparsity, AllocationConfig())


def _check_budget(name: str, given: Evidence) -> None:
    for sparsity in SPARSITIES:
        density = _densities(name, given, sparsity)
        assert density.shape == given.sizes.shape, f"there is a density of each matrix, got shape {density.shape}"
        assert density.dtype == np.float64, f"densities are float64, got {density.dtype}"
        assert ((density >= 0) & (density <= 1)).all(), f"densities are in [0, 1], got {density}"
        off = abs(float(given.sizes @ density) - (1 - sparsity) * float(given.sizes.sum()))
        assert off < 1, f"the weights kept at sparsity {sparsity} meet it to within one weight, they are off by {off}"
        assert np.array_equal(project(density, given.sizes, sparsity), density), "`project` changes nothing"


def _check_purity(name: str, given: Evidence) -> None:
    first = _densities(name, given, 0.6)
    before = first.copy()
    _densities(name, given, 0.2)
    assert np.array_equal(_densities(name, given, 0.6), first), "the same evidence has the same densities again"
    assert np.array_equal(first, before), "a later call leaves the densities of an earlier one as they are"


def _check_order(name: str, given: Evidence) -> None:
    assert np.allclose(_densities(name, given, 0.0), 1, rtol=0, atol=1e-12), "sparsity 0 is dense"
    kept = [float(given.sizes @ _densities(name, given, sparsity)) for sparsity in np.linspace(0, 1, 41)]
    assert (np.diff(kept) <= 0).all(), "a higher sparsity never keeps more"


def _check_needs(name: str, given: Evidence) -> None:
    needs, expected = ALLOCATIONS[name].needs, _densities(name, given, 0.5)
    enough = _without(given, [field for field in MEASURED if field not in needs])
    assert np.array_equal(_densities(name, enough, 0.5), expected), f"{needs} is all the evidence that it reads"
    for field in needs:
        try:
            _densities(name, _without(given, [field]), 0.5)
        except Exception:  # a rule may raise anything without it
            continue
        raise AssertionError(f"{field} is measured for it and not read")


def _without(given: Evidence, fields: list[str]) -> Evidence:
    nothing: dict[str, Any] = dict.fromkeys(fields)
    return replace(given, **nothing)
