"""Measuring a table: every piece at all its levels, and the whole network at both ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from sparsesearch.data.samples import Samples
from sparsesearch.latency.pieces import (
    Piece,
    at_levels,
    copy_of,
    inputs_in,
    inputs_of,
    narrowed,
    pieces_of,
    request,
    signature,
    without,
)
from sparsesearch.latency.table import LatencyTable, Setting, Timed
from sparsesearch.latency.timing import Run, compared, peak_bytes, quiet
from sparsesearch.models.network import Network
from sparsesearch.models.task import Inputs
from sparsesearch.space import Genome, Space
from sparsesearch.supernet.elastic import Elastic


def measure_table(
    model: Any, network: Network, space: Space, samples: Samples, setting: Setting, tell: Callable[[str], None]
) -> LatencyTable:
    """Time every piece at all its levels, and the network dense and smallest.

    Args:
        model: on the setting's device, in its data type; it is as before when this returns.
        samples: of which the first is asked over and over.
        tell: is told what is being measured.
    """
    with quiet(setting.threads):
        inputs = inputs_of(samples, network.task, setting, model)
        bench = _Bench(model, network, space, inputs, setting)
        pieces = pieces_of(network, space, model)
        given = {} if network.blocks else inputs_in(model, [p.place for p in pieces], network.task, inputs)
        groups: dict[str, list[Piece]] = {}
        for piece in pieces:
            groups.setdefault(signature(model, piece, space, given.get(piece.place)), []).append(piece)
        timed: dict[Piece, Timed] = {}
        for equal in groups.values():
            tell(f"{equal[0].place}, of {len(equal)}")
            ns = bench.blocks(equal) if network.blocks else bench.layer(equal[0], given[equal[0].place])
            saved = bench.drop(equal)
            timed |= {piece: _timed(piece, space, ns, saved) for piece in equal}
        tell("the whole network")
        dense_ns, smallest_ns = bench.networks([space.smallest])
        held = peak_bytes(bench.asked(model), setting.device)
    activations = max(held - cached_bytes(network, setting), 0)
    return LatencyTable(setting, tuple(timed[piece] for piece in pieces), dense_ns, smallest_ns, activations)


def cached_bytes(network: Network, setting: Setting) -> int:
    """Bytes of the dense network's KV cache when a request ends."""
    if not setting.generated:
        return 0
    values = sum(a.elements * a.cached + a.cached_always for a in network.attentions)
    return values * setting.batch * setting.tokens * setting.bytes_per_value


def _timed(piece: Piece, space: Space, ns: Sequence[float], saved: float) -> Timed:
    """
    Args:
        ns: at each combination of levels, from any zero.
        saved: by dropping the piece where it is dense.
    """
    units = [space.units[i] for i in piece.units]
    drop = None if piece.drop is None else space.units[piece.drop].name
    least = min(ns) if drop is None else ns[0] - saved
    return Timed(
        piece.place,
        tuple(u.name for u in units),
        tuple(u.levels for u in units),
        drop,
        tuple(max(round(each - least), 0) for each in ns),
    )


class _Bench:
    """Times parts of one network under one setting."""

    def __init__(self, model: Any, network: Network, space: Space, inputs: Inputs, setting: Setting) -> None:
        self.model, self.network, self.space, self.inputs, self.setting = model, network, space, inputs, setting
        self.elastic = Elastic(model, network, space)

    def asked(self, model: Any) -> Run:
        return lambda: request(model, self.network.task, self.inputs, self.setting.generated)

    def networks(self, genomes: Sequence[Genome]) -> list[int]:
        """Nanoseconds of a request to the dense network, and to each genome's."""
        size = sum(p.numel() * p.element_size() for p in self.model.parameters())
        makers = [partial(self._cut, genome) for genome in genomes]
        return compared(self.asked(self.model), makers, self.setting.device, size)

    def _cut(self, genome: Genome) -> Run:
        return self.asked(copy_of(self.model, "", self.elastic, genome))

    def blocks(self, equal: Sequence[Piece]) -> list[float]:
        """What one of some equal pieces takes at each combination of its levels, less the rest of the network."""
        genomes = [at_levels(self.space, equal, levels) for levels in equal[0].combinations(self.space)]
        return [ns / len(equal) for ns in self.networks(genomes[1:])]

    def drop(self, equal: Sequence[Piece]) -> float:
        """What dropping one of some equal pieces saves where they are dense; 0 where none can go."""
        able = [piece for piece in equal if piece.drop is not None]
        if not able:
            return 0.0
        dense, dropped = self.networks([without(self.space, able)])
        return max(dense - dropped, 0) / len(able)

    def layer(self, piece: Piece, given: torch.Tensor) -> list[float]:
        """What a layer takes by itself at each combination of its levels."""

        def run_of(layer: Any) -> Run:
            own = narrowed(layer, given)
            return lambda: layer(own)

        def copied(levels: Sequence[int]) -> Run:
            return run_of(copy_of(self.model, piece.place, self.elastic, at_levels(self.space, [piece], levels)))

        dense = run_of(self.model.get_submodule(piece.place))
        makers = [partial(copied, levels) for levels in piece.combinations(self.space)[1:]]
        return [float(ns) for ns in compared(dense, makers, self.setting.device, 0)]
