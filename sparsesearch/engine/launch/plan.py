"""The plan of a search: units, costs and limits, the disk that it will take, and memory that is too small."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.launch.supernet_plan import check_supernet_disk, supernet_plan
from sparsesearch.errors import problem
from sparsesearch.runs.cache import Cache
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
        "not_searched": list(launch.network.unsearchable),
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


def _calibration_bytes(launch: Launch) -> int:
    """Return the bytes on disk of second moments, gradients and hidden states (float32), and of the teacher cache."""
    moments = {m.input_key: m.groups * m.columns**2 for m in launch.network.matrices.values()}
    positions = launch.samples["calibration"].size * launch.network.positions
    hidden = positions * launch.network.hidden if launch.network.blockwise else 0
    gradients = 2 * sum(m.size for m in launch.network.matrices.values()) if launch.needs_gradients else 0
    return 4 * (sum(moments.values()) + hidden + gradients) + 3100 * launch.samples["selection"].size


def prefix_cache_note(launch: Launch) -> str:
    """Return a note if executor.prefix_bytes is too small for hidden states to be shared, else an empty text."""
    bound, network = launch.config.executor.prefix_bytes, launch.network
    width = getattr(torch, launch.dtype.removeprefix("torch.")).itemsize
    length = launch.samples["selection"].length * network.positions
    states = launch.config.batch * length * network.hidden * width
    if not network.blockwise or bound == 0 or bound >= states:
        return ""
    return (
        f"executor.prefix_bytes {bound:,} cannot hold one block's hidden states of a minibatch ({states:,} bytes): "
        "every candidate runs all blocks."
    )


def check_disk(launch: Launch, results: Path) -> None:
    """Raise EnvironmentProblem SS305 if the level store or supernet will not fit, SS302 if it cannot be written.

    Args:
        results: the results directory; its nearest existing parent is checked if it does not exist.
    """
    directory = next(p for p in (results, *results.parents) if p.exists())
    need = estimated_bytes(launch.space, launch.network, launch.storage_bytes) + _calibration_bytes(launch)
    free = shutil.disk_usage(directory).free
    if need > free:
        raise problem(
            "SS305",
            f"levels and calibration need about {need / 1e6:,.0f} MB; {directory} has {free / 1e6:,.0f} MB free.",
            fix="Give units fewer levels, or a results directory (--results) on a larger disk.",
        )
    if not os.access(directory, os.W_OK):
        raise problem("SS302", f"cannot write to {directory}.", fix="Choose another results directory (--results).")
    check_supernet_disk(launch, Cache(results / ".cache"))
