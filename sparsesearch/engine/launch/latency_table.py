"""The latency table of a launch: that of its run, one measured elsewhere, or one measured now."""

from __future__ import annotations

from pathlib import Path

import torch

from sparsesearch.config import RunConfig
from sparsesearch.data import Samples
from sparsesearch.latency import LatencyTable, measure_table, setting_of
from sparsesearch.models import Network
from sparsesearch.models.source import Source
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter
from sparsesearch.space import Space
from sparsesearch.space.cost import MEASURED


def _needs_table(config: RunConfig) -> bool:
    """Return whether latency or memory is an objective or limited, or a table is given."""
    costs = {*config.objectives[1:], *(limit.cost for limit in config.parsed_limits())}
    return bool(costs & set(MEASURED)) or config.latency.table is not None


def table_of(
    config: RunConfig,
    source: Source,
    network: Network,
    space: Space,
    samples: Samples,
    saved: RunDirectory | None,
    reporter: Reporter | None,
) -> LatencyTable | None:
    """Return the table of a launch; None if nothing needs one.

    Args:
        saved: a run that continues; its table is read if it has one.

    Raises InputError SS121 (no table), SS122 (a table of another request), SS123 (no such device here) or SS124 (a
    request that the network cannot answer).
    """
    if not _needs_table(config):
        return None
    if saved is not None and saved.latency.exists():
        return LatencyTable.read(saved.latency)
    if config.latency.table is not None:
        table = LatencyTable.read(Path(config.latency.table).expanduser())
        table.check(config.latency)
        return table
    return measure_now(config, source, network, space, samples, reporter or Reporter(quiet=True))


def measure_now(
    config: RunConfig, source: Source, network: Network, space: Space, samples: Samples, reporter: Reporter
) -> LatencyTable:
    """Measure the table of the recipe's request on a device of this machine; raises InputError SS123 or SS124."""
    setting = setting_of(config.latency, network, source.storage)
    model = source.load(getattr(torch, setting.dtype), setting.device)
    reporter.phase(f"latency on {setting.hardware}", None)
    done = 0

    def report_step(part: str) -> None:
        nonlocal done
        done += 1
        reporter.step(done, part)

    table = measure_table(model, network, space, samples, setting, report_step)
    reporter.end()
    return table
