"""Latency and memory of any candidate by a table, as parts of the space's costs.

latency(genome) = rest + scale * sum of its pieces. The two measurements of the complete network, dense and smallest,
give rest and scale, so that both are reproduced in spite of all that pieces do not cover (activations and norms between
layers, overlapping launches). Memory is that of weights, KV cache, and activations of the dense network, which no
candidate exceeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import isotonic_regression

from sparsesearch.errors import problem
from sparsesearch.latency.table import LatencyTable, Setting, TimedPiece
from sparsesearch.space import Part, Space, Unit


def with_latency(space: Space, context: int, table: LatencyTable) -> Space:
    """Return the space with latency and memory of its candidates among their costs.

    Args:
        space: the space without them.
        context: tokens of the space's KV-cache costs.
        table: the measured pieces.

    Raises InputError SS121 if the table was not measured for these units.
    """
    units = {unit.name: unit for unit in space.units}
    _check(table, units)
    monotone = [_monotone(piece) for piece in table.pieces]
    dense = sum(ns[0] for ns in monotone)
    smallest = sum(ns[-1] for ns, piece in zip(monotone, table.pieces, strict=True) if piece.drop is None)
    scale = max(table.dense_ns - table.smallest_ns, 0) / max(dense - smallest, 1)
    pieces = [_part(piece, [scale * value for value in ns]) for piece, ns in zip(table.pieces, monotone, strict=True)]
    rest = table.dense_ns - sum(part.latency_ns[0] for part in pieces)
    parts = [_with_memory(part, space.bytes_per_weight * context, table.setting) for part in space.parts]
    rest_part = Part(
        "rest of the network (latency)",
        (0,),
        ((0,),),
        (0,),
        (0,),
        latency_ns=(rest,),
        memory_bytes=(table.activation_bytes,),
    )
    return Space(space.units, (*parts, *pieces, rest_part), space.bytes_per_weight, space.limits)


def _check(table: LatencyTable, units: Mapping[str, Unit]) -> None:
    timed = {name: levels for piece in table.pieces for name, levels in zip(piece.units, piece.levels, strict=True)}
    timed |= {piece.drop: (1, 0) for piece in table.pieces if piece.drop is not None}
    different = [name for name in timed if name not in units or units[name].levels != timed[name]]
    different += [name for name, unit in units.items() if (unit.is_cut or unit.is_drop) and name not in timed]
    if different:
        raise problem(
            "SS121",
            f"the latency table was measured for other units: {different[0]} is not the same in it.",
            fix="Measure one for this recipe: 'sparsesearch latency SPACE.yaml --out FILE'.",
        )


def _part(piece: TimedPiece, ns: Sequence[float]) -> Part:
    zeros = (0,) * len(ns)
    return Part(
        f"{piece.place}: {', '.join((*piece.units, piece.drop or ''))} (latency)",
        zeros,
        (zeros,),
        zeros,
        zeros,
        piece.units,
        drop=piece.drop,
        latency_ns=tuple(map(round, ns)),
    )


def _monotone(piece: TimedPiece) -> list[float]:
    """Return the piece's nanoseconds, made non-increasing in every unit's level, as searches require.

    If a smaller level was measured slower (noise, or sizes that kernels handle worse), the two are averaged.
    """
    grid = np.array(piece.ns, dtype=float).reshape([len(levels) for levels in piece.levels])
    for axis in range(grid.ndim):
        grid = np.apply_along_axis(lambda ns: isotonic_regression(ns, increasing=False).x, axis, grid)
    for axis in range(grid.ndim):  # a later axis may have changed the order along an earlier one
        grid = np.minimum.accumulate(grid, axis=axis)
    ns: list[float] = grid.reshape(-1).tolist()
    return ns


def _with_memory(part: Part, kv_bytes_per_value: int, setting: Setting) -> Part:
    """Return a part with the memory of its weights and KV cache.

    Args:
        kv_bytes_per_value: the part's `kv_bytes` divided by its KV-cache values of one token.
    """
    cached = setting.batch * setting.tokens * setting.bytes_per_value if setting.generated else 0
    return replace(
        part,
        memory_bytes=tuple(
            weights * setting.bytes_per_value + kv * cached // kv_bytes_per_value
            for weights, kv in zip(part.params, part.kv_bytes, strict=True)
        ),
    )
