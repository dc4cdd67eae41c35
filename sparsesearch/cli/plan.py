"""What `--dry-run` and `space check` print: the space, its range of costs, and what it will take."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.table import Table

from sparsesearch.config import dump_config
from sparsesearch.engine.launch.prepare import Launch
from sparsesearch.engine.launch.supernet_plan import supernet_note, supernet_plan
from sparsesearch.engine.workers.executor import idle_gpu
from sparsesearch.media import Terminal
from sparsesearch.report.texts import cost_text
from sparsesearch.supernet.store import estimated_bytes


def plan_json(launch: Launch) -> dict[str, Any]:
    """Units by kind, cost range, limits and the estimated size of the level store."""
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
    """What the network puts out for a sample, and how it is compared."""
    network, selection = launch.network, launch.samples["selection"]
    positions, values = network.output_shape(selection.length)
    return {
        "positions": positions,
        "values": values,
        "axis": network.axis,
        "distribution": network.distribution,
        "quality": launch.config.objectives[0],
    }


def _outputs_text(outputs: dict[str, Any]) -> str:
    where = "the last axis" if outputs["axis"] == -1 else f"axis {outputs['axis']}"
    kind = "logits of one distribution" if outputs["distribution"] else "numbers"
    return (
        f"Outputs: {outputs['positions']:,} x {outputs['values']:,} a sample (positions x values, along {where}), read "
        f"as {kind}; judged by {outputs['quality']}"
    )


def print_plan(launch: Launch, path: Path | None = None) -> None:
    """The plan as a table, and the resolved configuration."""
    plan, console = plan_json(launch), Terminal()
    if path is not None:
        for line in dump_config(launch.config).splitlines():
            console.print(line, highlight=False, soft_wrap=True)
    units = ", ".join(f"{count} {kind}" for kind, count in plan["units"].items())
    console.print(f"{plan['model']}: {units}; 10^{len(str(plan['genomes'])) - 1} genomes", highlight=False)
    table = Table("cost", "dense", "smallest", "limit")
    for name, dense in plan["dense"].items():
        limits = ", ".join(b.text for b in launch.space.bounds if b.cost == name)
        smallest = plan["smallest"][name]
        table.add_row(
            name, cost_text(name, dense), f"{cost_text(name, smallest)} ({smallest / max(dense, 1):.0%})", limits
        )
    console.print(table)
    console.print(f"Level store: about {plan['store_bytes'] / 1e6:.1f} MB", highlight=False)
    if launch.config.supernet.is_trained:
        steps = f"{plan['supernet']['steps']:,} steps of {plan['supernet']['networks_a_step']:g} sub-networks"
        console.print(f"Supernet: {steps}. {supernet_note(launch)}", highlight=False, soft_wrap=True)
    if note := idle_gpu(launch.config.executor):
        console.print(note, highlight=False, soft_wrap=True)
    console.print(_outputs_text(plan["outputs"]), highlight=False, soft_wrap=True)
    for reason in launch.network.unsearchable:
        console.print(f"Not searched: {reason}.", highlight=False, soft_wrap=True)
    if path is not None:
        console.print(f"Run: {path}", highlight=False, soft_wrap=True)
