"""What allocation rules read, measured on one network and its calibration statistics."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.allocation import Evidence, evidence
from sparsesearch.allocation.given import Floats
from sparsesearch.calibration.gradients import load_gradients
from sparsesearch.calibration.statistics import load_statistics, load_turns
from sparsesearch.models.network import Matrix, Network
from sparsesearch.models.units import sparsity_module
from sparsesearch.space import Space


def measure_evidence(
    model: Any, network: Network, space: Space, needs: Collection[str], statistics: Path, gradients: Path
) -> Evidence:
    """Evidence about the matrices that the space's sparsity units are about, with the fields that `needs` names.

    Args:
        statistics: directory of the calibration pass.
        gradients: file of the gradient pass; read where `gradient_square` is needed.
    """
    by_module = {sparsity_module(m): m for m in network.matrices.values()}
    units = [unit for unit in space.units if unit.kind == "sparsity"]
    matrices = [by_module[unit.module] for unit in units]
    weights = [model.get_parameter(matrix.name).data for matrix in matrices]
    views = [matrix.view(weight) for matrix, weight in zip(matrices, weights, strict=True)]
    found: dict[str, Any] = {}
    if "magnitudes" in needs:
        found["magnitudes"] = tuple(evidence.magnitudes(weight) for weight in weights)
    if "lamp_thresholds" in needs:
        found["lamp_thresholds"] = tuple(evidence.lamp_thresholds(weight) for weight in weights)
    if "pq_index" in needs:
        found["pq_index"] = np.array([evidence.pq(weight) for weight in weights])
    if "tail_exponent" in needs:
        found["tail_exponent"] = np.array([np.mean([evidence.tail_exponent(g) for g in view]) for view in views])
    if "outliers" in needs:
        found["outliers"] = _outliers(network, matrices, views, statistics)
    if "gradient_square" in needs:
        squares = load_gradients(gradients)
        found["gradient_square"] = np.array(
            [evidence.gradient_square(w.cpu(), squares[m.name][1]) for m, w in zip(matrices, weights, strict=True)]
        )
    if {"angles", "cosines"} & set(needs):
        turns = [load_turns(statistics, block) for block in range(len(network.blocks))]
        found |= {"cosines": np.array([c for c, _ in turns]), "angles": np.array([a for _, a in turns])}
    return Evidence(
        names=tuple(unit.name for unit in units),
        sizes=np.array([unit.total for unit in units], dtype=np.int64),
        dims=tuple(_dims(matrix) for matrix in matrices),
        blocks=np.array([unit.block for unit in units], dtype=np.int64),
        **found,
    )


def _dims(matrix: Matrix) -> tuple[int, ...]:
    """(rows, columns, *kernel) of one group."""
    kernel = matrix.shape[2:] if matrix.layout == "conv" else ()
    return (matrix.rows, matrix.columns // matrix.kernel, *kernel)


def _outliers(network: Network, matrices: list[Matrix], views: list[Any], statistics: Path) -> Floats:
    shares = np.zeros(len(matrices))
    for block in range(len(network.blocks)):
        mine = [i for i, matrix in enumerate(matrices) if matrix.block == block]
        if mine:
            inputs = load_statistics(statistics, block)
            squares = [inputs[matrices[i].reads].second_moment.diagonal(dim1=1, dim2=2) for i in mine]
            shares[mine] = evidence.outliers([views[i].cpu() for i in mine], squares)
    return shares
