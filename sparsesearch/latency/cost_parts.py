"""What a table says of any candidate, as parts of the space's costs.

latency(genome) = rest + scale * sum of its pieces. The two measurements of the whole network, dense and smallest, give
rest and scale, so that both ends are right whatever pieces leave out (activations and norms between layers, launches
that overlap with others). Memory is that of the weights and the KV cache, and of activations as the dense network has
them, which no candidate exceeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import isotonic_regression

from sparsesearch.errors import problem
from sparsesearch.latency.table import LatencyTable, Setting, Timed
from sparsesearch.space import Part, Space, Unit


def with_latency(space: Space, context: int, table: LatencyTable) -> Space:
    """The space with what its candidates take in time and memory among their costs.

    Args:
        context: tokens that the space's KV-cache costs are for.

    Raises InputError SS121 where the table was not measured for these units.
    """
    units = {unit.name: unit for unit in space.units}
    _check(table, units)
    falling = [_falling(piece) for piece in table.pieces]
    dense = sum(ns[0] for ns in falling)
    least = sum(ns[-1] for ns, piece in zip(falling, table.pieces, strict=True) if piece.drop is None)
    scale = max(table.dense_ns - table.smallest_ns, 0) / max(dense - least, 1)
    pieces = [_part(piece, [scale * each for each in ns]) for piece, ns in zip(table.pieces, falling, strict=True)]
    rest = table.dense_ns - sum(part.latency_ns[0] for part in pieces)
    parts = [_with_memory(part, space.bytes_per_weight * context, table.setting) for part in space.parts]
    others = Part(
        "rest of the network (latency)",
        (0,),
        ((0,),),
        (0,),
        (0,),
        latency_ns=(rest,),
        memory_bytes=(table.activation_bytes,),
    )
    return Space(space.units, (*parts, *pieces, others), space.bytes_per_weight, space.limits)


def _check(table: LatencyTable, units: Mapping[str, Unit]) -> None:
    timed = {name: levels for piece in table.pieces for name, levels in zip(piece.units, piece.levels, strict=True)}
    timed |= {piece.drop: (1, 0) for piece in table.pieces if piece.drop is not None}
    strange = [name for name in timed if name not in units or units[name].levels != timed[name]]
    strange += [name for name, unit in units.items() if (unit.is_cut or unit.is_drop) and name not in timed]
    if strange:
        raise problem(
            "SS121",
            f"the latency table was measured for other units: {strange[0]} is not the same in it.",
            fix="Measure one for this recipe: 'sparsesearch latency SPACE.yaml --out FILE'.",
        )


def _part(piece: Timed, ns: Sequence[float]) -> Part:
    none = (0,) * len(ns)
    return Part(
        f"{piece.place}: {', '.join((*piece.units, piece.drop or ''))} (latency)",
        none,
        (none,),
        none,
        none,
        piece.units,
        drop=piece.drop,
        latency_ns=tuple(map(round, ns)),
    )


def _falling(piece: Timed) -> list[float]:
    """The piece's nanoseconds, none of which rises where less is kept: what searches rely on.

    Where a smaller level was measured slower (noise, or sizes that kernels like less), the two are averaged.
    """
    grid = np.array(piece.ns, dtype=float).reshape([len(levels) for levels in piece.levels])
    for axis in range(grid.ndim):
        grid = np.apply_along_axis(lambda ns: isotonic_regression(ns, increasing=False).x, axis, grid)
    for axis in range(grid.ndim):  # one axis may have undone another
        grid = np.minimum.accumulate(grid, axis=axis)
    found: list[float] = grid.reshape(-1).tolist()
    return found


def _with_memory(part: Part, counted: int, setting: Setting) -> Part:
    """With the memory of its weights, and of a KV cache whose costs are `counted` times its values of a token."""
    cached = setting.batch * setting.tokens * setting.bytes_per_value if setting.generated else 0
    return replace(
        part,
        memory_bytes=tuple(
            weights * setting.bytes_per_value + kv * cached // counted
            for weights, kv in zip(part.params, part.kv_bytes, strict=True)
        ),
    )
