"""The evidence of allocation rules, measured on one network and its calibration statistics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparsesearch.allocation import Evidence, allocation_units, evidence
from sparsesearch.arrays import Floats
from sparsesearch.calibration.gradients import load_gradients
from sparsesearch.calibration.statistics import load_cosine_and_angle, load_statistics
from sparsesearch.models.network import Matrix, Network, sparsity_module
from sparsesearch.space import Space, Unit


def measure_evidence(
    model: Any, network: Network, space: Space, needs: Collection[str], statistics: Path, gradients: Path
) -> Evidence:
    """Measure evidence about the units that allocations distribute over, with the fields in `needs`.

    A sparsity unit stands for its matrix, a width for the matrices that read the elements it cuts.

    Args:
        needs: names of optional fields of `Evidence`.
        statistics: directory of the calibration pass.
        gradients: file of the gradient pass; read if `gradient_square` is needed.
    """
    units = allocation_units(space)
    members = _members(network, units)
    weights = {m.name: model.get_parameter(m.name).data for matrices in members for m in matrices}

    def for_each_unit(measure: Callable[[torch.Tensor], Any]) -> Iterator[Any]:
        # A unit's weights are copied only if several matrices are joined.
        for first, *rest in members:
            weight = weights[first.name]
            yield measure(torch.cat([weight.flatten(), *(weights[m.name].flatten() for m in rest)]) if rest else weight)

    fields: dict[str, Any] = {}
    if "magnitudes" in needs:
        fields["magnitudes"] = tuple(for_each_unit(evidence.magnitudes))
    if "lamp_thresholds" in needs:
        fields["lamp_thresholds"] = tuple(for_each_unit(evidence.lamp_thresholds))
    if "pq_index" in needs:
        fields["pq_index"] = np.array(list(for_each_unit(evidence.pq)))
    if "tail_exponent" in needs:
        tails = {
            name: float(np.mean([evidence.tail_exponent(g) for g in view])) for name, view in _views(members, weights)
        }
        fields["tail_exponent"] = _unit_means(members, tails)
    if "outliers" in needs:
        shares = _outliers(network, members, dict(_views(members, weights)), statistics)
        fields["outliers"] = _unit_means(members, shares)
    if "gradient_square" in needs:
        squares = load_gradients(gradients)
        sums = {name: evidence.gradient_square(w.cpu(), squares[name][1]) for name, w in weights.items()}
        fields["gradient_square"] = np.array([sum(sums[m.name] for m in matrices) for matrices in members])
    if {"angles", "cosines"} & set(needs):
        turns = [load_cosine_and_angle(statistics, block) for block in range(len(network.blocks))]
        fields |= {"cosines": np.array([c for c, _ in turns]), "angles": np.array([a for _, a in turns])}
    return Evidence(
        names=tuple(unit.name for unit in units),
        sizes=np.array([sum(m.size for m in matrices) for matrices in members], dtype=np.int64),
        dims=tuple(_dims(matrices[0]) for matrices in members),
        blocks=np.array([unit.block for unit in units], dtype=np.int64),
        **fields,
    )


def _members(network: Network, units: list[Unit]) -> list[list[Matrix]]:
    """Return the matrices of each unit."""
    by_module = {sparsity_module(m): m for m in network.matrices.values()}
    return [
        [by_module[unit.module]]
        if unit.kind == "sparsity"
        else [network.matrices[slot.tensor] for slot in network.cuts[unit.name].readers]
        for unit in units
    ]


def _views(members: list[list[Matrix]], weights: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the name of each matrix and its weights as (groups, rows, columns)."""
    for matrix in itertools.chain.from_iterable(members):
        yield matrix.name, matrix.view(weights[matrix.name])


def _unit_means(members: list[list[Matrix]], values: dict[str, float]) -> Floats:
    """Return for each unit the mean over its matrices, weighted by size, (units,)."""
    return np.array([np.average([values[m.name] for m in ms], weights=[m.size for m in ms]) for ms in members])


def _dims(matrix: Matrix) -> tuple[int, ...]:
    """Return (rows, columns, *kernel) of one group of a matrix."""
    kernel = matrix.shape[2:] if matrix.layout == "conv" else ()
    return (matrix.rows, matrix.columns // matrix.kernel, *kernel)


def _outliers(
    network: Network, members: list[list[Matrix]], views: dict[str, torch.Tensor], statistics: Path
) -> dict[str, float]:
    """Return the share of outliers by name of matrix."""
    matrices = list({m.name: m for m in itertools.chain.from_iterable(members)}.values())
    shares: dict[str, float] = {}
    for block in range(len(network.blocks)):
        in_block = [matrix for matrix in matrices if matrix.block == block]
        if in_block:
            inputs = load_statistics(statistics, block)
            squares = [inputs[m.input_key].second_moment.diagonal(dim1=1, dim2=2) for m in in_block]
            block_shares = evidence.outliers([views[m.name].cpu() for m in in_block], squares)
            shares |= {m.name: float(share) for m, share in zip(in_block, block_shares, strict=True)}
    return shares
