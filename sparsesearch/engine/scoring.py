"""Scores of candidates by proxies, on workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.arrays import Floats
from sparsesearch.engine.launch.prepare import Launch
from sparsesearch.engine.stores import sole_builder
from sparsesearch.engine.workers.executor import Executor, alive
from sparsesearch.engine.workers.worker import WorkerSetup
from sparsesearch.proxies import CostedGenome, Proxy
from sparsesearch.proxies.gatherer import score_or_error
from sparsesearch.proxies.score_table import MatrixScores, ScoreTable
from sparsesearch.runs.ledger import Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.space import Genome, Space

Scores = dict[str, Floats]


def scored(
    launch: Launch,
    setup: WorkerSetup,
    space: Space,
    proxies: Sequence[Proxy],
    genomes: list[Genome],
    executor: Executor,
    reporter: Reporter,
    ledger: Ledger,
) -> tuple[Scores, dict[str, float]]:
    """Scores by proxy, and seconds a candidate."""
    reads = {kind: [p for p in proxies if p.reads == kind] for kind in ("costs", "matrix", "network")}
    scores, seconds = {}, {}
    for proxy in reads["costs"]:
        costed = [CostedGenome(genome, space.costs.named(genome.levels)) for genome in genomes]
        started = time.monotonic()
        scores[proxy.name] = _numbers(proxy.name, [score_or_error(proxy, each) for each in costed], reporter)
        seconds[proxy.name] = (time.monotonic() - started) / len(genomes)
    tables = score_tables(launch, setup, space, reads["matrix"], executor, reporter, ledger)
    levels = np.array([genome.levels for genome in genomes])
    for proxy in reads["matrix"]:
        started, table = time.monotonic(), tables.get(proxy.name)
        scores[proxy.name] = np.full(len(genomes), np.nan) if table is None else table.scores(levels)
        seconds[proxy.name] = (time.monotonic() - started) / len(genomes)
    lanes = launch.config.executor.workers if launch.config.executor.kind == "ray" else 1
    for proxy in reads["network"]:
        started = time.monotonic()
        scores[proxy.name] = _live_scores(proxy, genomes, executor, reporter)
        ledger.add(f"proxy {proxy.name}", time.monotonic() - started, 0)
        seconds[proxy.name] = (time.monotonic() - started) / len(genomes) * lanes
    return scores, seconds


def score_tables(
    launch: Launch,
    setup: WorkerSetup,
    space: Space,
    proxies: list[Proxy],
    executor: Executor,
    reporter: Reporter,
    ledger: Ledger,
) -> dict[str, ScoreTable]:
    """Tables of those matrix proxies that do not fail; what they need of the dense network is measured first."""
    if not proxies:
        return {}
    started = time.monotonic()
    needs = sorted(set(chain.from_iterable(proxy.needs for proxy in proxies)))
    blocks = len(launch.network.blocks)
    reporter.phase("what proxies need of the dense network", len(needs))
    with sole_builder(Path(setup.statistics), reporter), sole_builder(Path(setup.store), reporter):
        for done, need in enumerate(needs, 1):
            list(alive(executor.map("gather", [([need],)])))
            reporter.step(done, need)
    reporter.phase("proxy tables", blocks)
    found: dict[str, dict[str, MatrixScores]] = {proxy.name: {} for proxy in proxies}
    failed = set[str]()
    results = alive(executor.map("tabulate", [(block, proxies) for block in range(blocks)]))
    for done, each in enumerate(results, 1):
        for name, scores in each.items():
            if isinstance(scores, str):
                _tell(name, scores, reporter)
                failed.add(name)
            else:
                found[name] |= scores
        reporter.step(done, "blocks")
    reporter.end()
    ledger.add("proxy tables", time.monotonic() - started, 0)
    return {name: ScoreTable.of(space, scores) for name, scores in found.items() if name not in failed}


def _live_scores(proxy: Proxy, genomes: list[Genome], executor: Executor, reporter: Reporter) -> Floats:
    reporter.phase(f"proxy {proxy.name}", len(genomes))
    values = []
    results: Any = alive(executor.map("score", [(genome.data, [proxy]) for genome in genomes]))
    for done, found in enumerate(results, 1):
        values.append(found[proxy.name])
        reporter.step(done)
    reporter.end()
    return _numbers(proxy.name, values, reporter)


def _numbers(proxy: str, values: Sequence[float | str], reporter: Reporter) -> Floats:
    """Scores, nan where the proxy failed, which is told once."""
    for value in values:
        if isinstance(value, str):
            _tell(proxy, value, reporter)
            break
    return np.array([np.nan if isinstance(value, str) else value for value in values])


def _tell(proxy: str, failure: str, reporter: Reporter) -> None:
    reporter.message(f"SS407 proxy {proxy}: {failure}")
