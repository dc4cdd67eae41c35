"""Output of `--dry-run` and `space check`: the space, its range of costs, and the disk and training it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from sparsesearch.api.searches import check_dry_run, plan
from sparsesearch.cli.options import print_json
from sparsesearch.config import dump_config
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.launch.supernet_plan import supernet_note
from sparsesearch.engine.workers.cluster import idle_gpu
from sparsesearch.media import Terminal
from sparsesearch.report.texts import cost_text


def _outputs_text(outputs: dict[str, Any]) -> str:
    axis = "the last axis" if outputs["axis"] == -1 else f"axis {outputs['axis']}"
    kind = "logits of one distribution" if outputs["distribution"] else "numbers"
    return (
        f"Outputs: {outputs['positions']:,} x {outputs['values']:,} a sample (positions x values, along {axis}), read "
        f"as {kind}; quality: {outputs['quality']}"
    )


def print_dry_run(launch: Launch, path: Path, as_json: bool) -> None:
    """Make all checks of a search before it starts, and print the plan."""
    check_dry_run(launch, path)
    if as_json:
        print_json(plan(launch))
    else:
        print_plan(launch, path)


def print_plan(launch: Launch, path: Path | None = None) -> None:
    """Print the plan as a table, and with a path the resolved configuration before it."""
    numbers, console = plan(launch), Terminal()
    if path is not None:
        for line in dump_config(launch.config).splitlines():
            console.print(line, highlight=False, soft_wrap=True)
    units = ", ".join(f"{count} {kind}" for kind, count in numbers["units"].items())
    console.print(f"{numbers['model']}: {units}; 10^{len(str(numbers['genomes'])) - 1} genomes", highlight=False)
    table = Table("cost", "dense", "smallest", "limit")
    for name, dense in numbers["dense"].items():
        limits = ", ".join(b.text for b in launch.space.bounds if b.cost == name)
        smallest = numbers["smallest"][name]
        table.add_row(
            name, cost_text(name, dense), f"{cost_text(name, smallest)} ({smallest / max(dense, 1):.0%})", limits
        )
    console.print(table)
    console.print(f"Level store: about {numbers['store_bytes'] / 1e6:.1f} MB", highlight=False)
    if launch.config.supernet.is_trained:
        steps = f"{numbers['supernet']['steps']:,} steps of {numbers['supernet']['networks_a_step']:g} sub-networks"
        console.print(f"Supernet: {steps}. {supernet_note(launch)}", highlight=False, soft_wrap=True)
    if note := idle_gpu(launch.config.executor):
        console.print(note, highlight=False, soft_wrap=True)
    console.print(_outputs_text(numbers["outputs"]), highlight=False, soft_wrap=True)
    for note in launch.network.unsearchable:
        console.print(f"Note: {note}.", highlight=False, soft_wrap=True)
    if path is not None:
        console.print(f"Run: {path}", highlight=False, soft_wrap=True)
