"""What allocation rules read, measured on one network and its calibration statistics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparsesearch.allocation import Evidence, distributed, evidence
from sparsesearch.allocation.given import Floats
from sparsesearch.calibration.gradients import load_gradients
from sparsesearch.calibration.statistics import load_statistics, load_turns
from sparsesearch.models.network import Matrix, Network, sparsity_module
from sparsesearch.space import Space, Unit


def measure_evidence(
    model: Any, network: Network, space: Space, needs: Collection[str], statistics: Path, gradients: Path
) -> Evidence:
    """Evidence about the units that allocations distribute over, with the fields that `needs` names.

    A sparsity unit is its matrix; a width is the matrices that read what it cuts.

    Args:
        statistics: directory of the calibration pass.
        gradients: file of the gradient pass; read where `gradient_square` is needed.
    """
    units = distributed(space)
    members = _members(network, units)
    weights = {m.name: model.get_parameter(m.name).data for matrices in members for m in matrices}

    def each(measure: Callable[[torch.Tensor], Any]) -> Iterator[Any]:
        # One at a time: only what several matrices read is copied.
        for first, *rest in members:
            own = weights[first.name]
            yield measure(torch.cat([own.flatten(), *(weights[m.name].flatten() for m in rest)]) if rest else own)

    found: dict[str, Any] = {}
    if "magnitudes" in needs:
        found["magnitudes"] = tuple(each(evidence.magnitudes))
    if "lamp_thresholds" in needs:
        found["lamp_thresholds"] = tuple(each(evidence.lamp_thresholds))
    if "pq_index" in needs:
        found["pq_index"] = np.array(list(each(evidence.pq)))
    if "tail_exponent" in needs:
        tails = {
            name: float(np.mean([evidence.tail_exponent(g) for g in view])) for name, view in _views(members, weights)
        }
        found["tail_exponent"] = _mean(members, tails)
    if "outliers" in needs:
        found["outliers"] = _mean(members, _outliers(network, members, dict(_views(members, weights)), statistics))
    if "gradient_square" in needs:
        squares = load_gradients(gradients)
        sums = {name: evidence.gradient_square(w.cpu(), squares[name][1]) for name, w in weights.items()}
        found["gradient_square"] = np.array([sum(sums[m.name] for m in matrices) for matrices in members])
    if {"angles", "cosines"} & set(needs):
        turns = [load_turns(statistics, block) for block in range(len(network.blocks))]
        found |= {"cosines": np.array([c for c, _ in turns]), "angles": np.array([a for _, a in turns])}
    return Evidence(
        names=tuple(unit.name for unit in units),
        sizes=np.array([sum(m.size for m in matrices) for matrices in members], dtype=np.int64),
        dims=tuple(_dims(matrices[0]) for matrices in members),
        blocks=np.array([unit.block for unit in units], dtype=np.int64),
        **found,
    )


def _members(network: Network, units: list[Unit]) -> list[list[Matrix]]:
    by_module = {sparsity_module(m): m for m in network.matrices.values()}
    return [
        [by_module[unit.module]]
        if unit.kind == "sparsity"
        else [network.matrices[slot.tensor] for slot in network.cuts[unit.name].readers]
        for unit in units
    ]


def _views(members: list[list[Matrix]], weights: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    for matrix in itertools.chain.from_iterable(members):
        yield matrix.name, matrix.view(weights[matrix.name])


def _mean(members: list[list[Matrix]], values: dict[str, float]) -> Floats:
    """For each unit the mean over its matrices, by size."""
    return np.array([np.average([values[m.name] for m in ms], weights=[m.size for m in ms]) for ms in members])


def _dims(matrix: Matrix) -> tuple[int, ...]:
    """(rows, columns, *kernel) of one group."""
    kernel = matrix.shape[2:] if matrix.layout == "conv" else ()
    return (matrix.rows, matrix.columns // matrix.kernel, *kernel)


def _outliers(
    network: Network, members: list[list[Matrix]], views: dict[str, torch.Tensor], statistics: Path
) -> dict[str, float]:
    matrices = list({m.name: m for m in itertools.chain.from_iterable(members)}.values())
    shares: dict[str, float] = {}
    for block in range(len(network.blocks)):
        mine = [matrix for matrix in matrices if matrix.block == block]
        if mine:
            inputs = load_statistics(statistics, block)
            squares = [inputs[m.reads].second_moment.diagonal(dim1=1, dim2=2) for m in mine]
            found = evidence.outliers([views[m.name].cpu() for m in mine], squares)
            shares |= {m.name: float(share) for m, share in zip(mine, found, strict=True)}
    return shares
