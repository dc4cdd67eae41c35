"""Measurement of a latency table: every piece at all its levels, and the complete network, dense and smallest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from sparsesearch.data.samples import Samples
from sparsesearch.latency.pieces import (
    Piece,
    copy_module,
    genome_at_levels,
    genome_without,
    layer_inputs,
    narrow_inputs,
    pieces_of,
    request_inputs,
    run_request,
    signature,
)
from sparsesearch.latency.table import LatencyTable, Setting, TimedPiece
from sparsesearch.latency.timing import TimedCall, inference_threads, peak_bytes, time_against
from sparsesearch.models.network import Network
from sparsesearch.models.task import Inputs
from sparsesearch.space import Genome, Space
from sparsesearch.supernet.elastic import ElasticSupernet


def measure_table(
    model: Any, network: Network, space: Space, samples: Samples, setting: Setting, report: Callable[[str], None]
) -> LatencyTable:
    """Time every piece at all its levels, and the network dense and smallest.

    Args:
        model: the network on the setting's device, in its data type; it is unchanged when this returns.
        samples: samples, of which the first is repeated in every request.
        report: called with the name of each measurement.
    """
    with inference_threads(setting.threads):
        inputs = request_inputs(samples, network.task, setting, model)
        bench = _Bench(model, network, space, inputs, setting)
        pieces = pieces_of(network, space, model)
        by_layer = {} if network.blocks else layer_inputs(model, [p.place for p in pieces], network.task, inputs)
        groups: dict[str, list[Piece]] = {}
        for piece in pieces:
            groups.setdefault(signature(model, piece, space, by_layer.get(piece.place)), []).append(piece)
        timed: dict[Piece, TimedPiece] = {}
        for equal in groups.values():
            report(f"{equal[0].place}, of {len(equal)}")
            ns = bench.blocks(equal) if network.blocks else bench.layer(equal[0], by_layer[equal[0].place])
            saved = bench.drop(equal)
            timed |= {piece: _timed(piece, space, ns, saved) for piece in equal}
        report("the whole network")
        dense_ns, smallest_ns = bench.networks([space.smallest])
        peak = peak_bytes(bench.request(model), setting.device)
    activations = max(peak - cached_bytes(network, setting), 0)
    return LatencyTable(setting, tuple(timed[piece] for piece in pieces), dense_ns, smallest_ns, activations)


def cached_bytes(network: Network, setting: Setting) -> int:
    """Return the bytes of the dense network's KV cache at the end of a request."""
    if not setting.generated:
        return 0
    values = sum(a.elements * a.cached + a.cached_always for a in network.attentions)
    return values * setting.batch * setting.tokens * setting.bytes_per_value


def _timed(piece: Piece, space: Space, ns: Sequence[float], saved: float) -> TimedPiece:
    """
    Args:
        ns: nanoseconds at each combination of levels, up to a constant.
        saved: nanoseconds saved by dropping the dense piece.
    """
    units = [space.units[i] for i in piece.units]
    drop = None if piece.drop is None else space.units[piece.drop].name
    zero = min(ns) if drop is None else ns[0] - saved
    return TimedPiece(
        piece.place,
        tuple(u.name for u in units),
        tuple(u.levels for u in units),
        drop,
        tuple(max(round(value - zero), 0) for value in ns),
    )


class _Bench:
    """Times parts of one network under one setting."""

    def __init__(self, model: Any, network: Network, space: Space, inputs: Inputs, setting: Setting) -> None:
        self.model, self.network, self.space, self.inputs, self.setting = model, network, space, inputs, setting
        self.elastic = ElasticSupernet(model, network, space)

    def request(self, model: Any) -> TimedCall:
        """Return a call that sends a request to a network."""
        return lambda: run_request(model, self.network.task, self.inputs, self.setting.generated)

    def networks(self, genomes: Sequence[Genome]) -> list[int]:
        """Return nanoseconds of a request to the dense network, then to the network of each genome."""
        size = sum(p.numel() * p.element_size() for p in self.model.parameters())
        makers = [partial(self._pruned_request, genome) for genome in genomes]
        return time_against(self.request(self.model), makers, self.setting.device, size)

    def _pruned_request(self, genome: Genome) -> TimedCall:
        return self.request(copy_module(self.model, "", self.elastic, genome))

    def blocks(self, equal: Sequence[Piece]) -> list[float]:
        """Return nanoseconds of one of some equal pieces at each combination of its levels, up to a constant."""
        genomes = [genome_at_levels(self.space, equal, levels) for levels in equal[0].combinations(self.space)]
        return [ns / len(equal) for ns in self.networks(genomes[1:])]

    def drop(self, equal: Sequence[Piece]) -> float:
        """Return nanoseconds saved by dropping one of some equal dense pieces; 0 if none can be dropped."""
        droppable = [piece for piece in equal if piece.drop is not None]
        if not droppable:
            return 0.0
        dense, dropped = self.networks([genome_without(self.space, droppable)])
        return max(dense - dropped, 0) / len(droppable)

    def layer(self, piece: Piece, inputs: torch.Tensor) -> list[float]:
        """Return nanoseconds of a layer alone at each combination of its levels.

        Args:
            inputs: the layer's inputs in the dense network.
        """

        def call_of(layer: Any) -> TimedCall:
            narrow = narrow_inputs(layer, inputs)
            return lambda: layer(narrow)

        def pruned_call(levels: Sequence[int]) -> TimedCall:
            genome = genome_at_levels(self.space, [piece], levels)
            return call_of(copy_module(self.model, piece.place, self.elastic, genome))

        dense = call_of(self.model.get_submodule(piece.place))
        makers = [partial(pruned_call, levels) for levels in piece.combinations(self.space)[1:]]
        return [float(ns) for ns in time_against(dense, makers, self.setting.device, 0)]
