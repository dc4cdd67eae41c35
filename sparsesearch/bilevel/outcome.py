"""Turns a decision into a genome of the space, and into the network that was learned with it."""

from __future__ import annotations

import copy
from typing import Any

import torch

from sparsesearch.allocation import genome_at_limits
from sparsesearch.bilevel.base import Decision
from sparsesearch.bilevel.levels import nearest_level
from sparsesearch.bilevel.relaxed import RelaxedNetwork
from sparsesearch.bilevel.selection import top_mask
from sparsesearch.models.network import Matrix, Network, sparsity_unit_name
from sparsesearch.space import Genome, Space, Unit
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.compose import select
from sparsesearch.supernet.store import UnitFiles


def genome_of(space: Space, decision: Decision) -> Genome:
    """Return the genome whose densities are a multiple of the decided ones, as large as the limits allow.

    Without limits, each unit gets the level nearest to its decided number of elements.
    """
    densities = {unit.name: decision.kept[unit.name] / unit.total for unit in space.units}
    if not space.bounds:
        return Genome.of(nearest_level(unit.levels, decision.kept[unit.name]) for unit in space.units)
    genome = genome_at_limits(
        space, lambda sparsity: {n: min(1.0, 2 * (1 - sparsity) * d) for n, d in densities.items()}
    )
    return space.smallest if genome is None else genome


class LearnedFiles:
    """A level store of the learned weights, with the elements that the learner scored highest.

    Units without scores keep the elements of the original store; no weight is refitted.
    """

    def __init__(self, model: Any, network: Network, space: Space, store: UnitFiles, decision: Decision) -> None:
        self._network, self._store, self._scores = network, store, decision.scores
        self._weights: dict[str, torch.Tensor] = {name: p.data for name, p in model.named_parameters()}
        self._names = {sparsity_unit_name(m): m.name for m in network.matrices.values()}

    def sparse(self, unit: Unit, level: int, shape: tuple[int, ...]) -> torch.Tensor:
        """Return the weight, in its shape, at a sparsity level >= 1."""
        weight = self._weights[self._names[unit.name]]
        if unit.name in self._scores:
            return weight * top_mask(unit, self._scores[unit.name], unit.levels[level]).view(shape).to(weight)
        return weight * (self._store.sparse(unit, level, shape) != 0).to(weight)

    def kept(self, unit: Unit, level: int, elements: int) -> torch.Tensor:
        """Return the elements that a cut level keeps in each order, ascending, (orders, kept)."""
        if unit.name not in self._scores:
            return self._store.kept(unit, level, elements)
        mask = top_mask(unit, self._scores[unit.name], unit.levels[level])
        return torch.stack([row.nonzero().flatten() for row in mask]).cpu()

    def cut(self, unit: Unit, level: int, reader: int) -> torch.Tensor:
        """Return the kept columns of one reader at a cut level >= 1, (groups, rows, kept columns)."""
        cut = self._network.cuts[unit.name]
        slot = cut.readers[reader]
        matrix, kept = self._network.matrices[slot.tensor], slot.positions_of(self.kept(unit, level, cut.elements))
        return matrix.view(select(self._weights[slot.tensor], slot, kept))

    def mean(self, matrix: Matrix) -> torch.Tensor:
        """Return the mean inputs of a matrix in the dense network, from the original store, (groups, inputs)."""
        return self._store.mean(matrix)


def learned_network(relaxed: RelaxedNetwork, space: Space, store: UnitFiles, decision: Decision, genome: Genome) -> Any:
    """Return a new, really smaller network of the genome with the learned elements and weights."""
    model = copy.deepcopy(relaxed.weights.model)
    with torch.no_grad():
        for name in relaxed.weights.model_parameters:
            model.get_parameter(name).copy_(decision.weights.get(name, relaxed.weights.tensor(name)))
    model.eval().requires_grad_(False)
    files: Any = LearnedFiles(model, relaxed.network, space, store, decision)
    return StitchedSupernet(model, relaxed.network, space, files).materialise(genome)
