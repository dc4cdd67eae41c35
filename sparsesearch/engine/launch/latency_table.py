"""Which latency table a launch has: that of its run, one measured elsewhere, or one measured now."""

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


def _is_wanted(config: RunConfig) -> bool:
    """Whether latency or memory is an objective or limited, or a table is given."""
    named = {*config.objectives[1:], *(limit.cost for limit in config.parsed_limits())}
    return bool(named & set(MEASURED)) or config.latency.table is not None


def table_of(
    config: RunConfig,
    source: Source,
    network: Network,
    space: Space,
    samples: Samples,
    saved: RunDirectory | None,
    reporter: Reporter | None,
) -> LatencyTable | None:
    """The table of a launch; None where nothing needs one.

    Raises InputError SS121 (no table), SS122 (of another request), SS123 (no such device here) or SS124 (a request that
    the network cannot answer).
    """
    if not _is_wanted(config):
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
    """A table of the recipe's request on a device of this machine."""
    setting = setting_of(config.latency, network, source.storage)
    model = source.load(getattr(torch, setting.dtype), setting.device)
    reporter.phase(f"latency on {setting.hardware}", None)
    done = 0

    def tell(what: str) -> None:
        nonlocal done
        done += 1
        reporter.step(done, what)

    table = measure_table(model, network, space, samples, setting, tell)
    reporter.end()
    return table
