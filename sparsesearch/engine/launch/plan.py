"""The plan of a search for `--dry-run` and `space check`: its space, and the disk and training it needs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.launch.supernet_plan import supernet_plan
from sparsesearch.supernet.store import estimated_bytes


def plan_json(launch: Launch) -> dict[str, Any]:
    """Return units by kind, the range of costs, limits and the estimated size of the level store."""
    space = launch.space
    kinds = Counter(unit.kind for unit in space.units)
    genomes = 1
    for unit in space.units:
        genomes *= len(unit.levels)
    return {
        "model": launch.config.model.id,
        "units": dict(kinds),
        "genomes": genomes,
        "dense": space.dense_costs,
        "smallest": space.costs.named(space.smallest.levels),
        "limits": {b.text: b.maximum for b in space.bounds},
        "outputs": outputs_json(launch),
        "not_searched": list(launch.network.limits),
        "supernet": supernet_plan(launch),
        "store_bytes": estimated_bytes(space, launch.network, launch.storage_bytes),
        "config": launch.config.model_dump(mode="json"),
    }


def outputs_json(launch: Launch) -> dict[str, Any]:
    """Return the shape of the network's outputs for a sample, and how they are compared."""
    network, selection = launch.network, launch.samples["selection"]
    positions, values = network.output_shape(selection.length)
    return {
        "positions": positions,
        "values": values,
        "axis": network.axis,
        "distribution": network.distribution,
        "quality": launch.config.objectives[0],
    }
