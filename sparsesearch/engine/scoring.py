"""Scores of candidates by proxies, on workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from sparsesearch.engine.executors import Executor, alive
from sparsesearch.engine.launch import Launch
from sparsesearch.engine.ledger import Ledger
from sparsesearch.engine.progress import Reporter
from sparsesearch.proxies import Costed, Proxy
from sparsesearch.proxies.audit import Floats
from sparsesearch.proxies.table import ScoreTable, Tabulated
from sparsesearch.space import Genome, Space

Scores = dict[str, Floats]


def scored(
    launch: Launch,
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
        costed = [Costed(genome, space.costs.named(genome.levels)) for genome in genomes]
        started = time.monotonic()
        scores[proxy.name] = np.array([proxy.score(each) for each in costed])
        seconds[proxy.name] = (time.monotonic() - started) / len(genomes)
    tables = score_tables(launch, space, reads["matrix"], executor, reporter, ledger)
    for name, table in tables.items():
        started = time.monotonic()
        scores[name] = table.scores(np.array([genome.levels for genome in genomes]))
        seconds[name] = (time.monotonic() - started) / len(genomes)
    for proxy in reads["network"]:
        started = time.monotonic()
        scores[proxy.name] = _live_scores(proxy, genomes, executor, reporter)
        ledger.add(f"proxy {proxy.name}", time.monotonic() - started, 0)
        seconds[proxy.name] = (time.monotonic() - started) / len(genomes) * launch.config.executor.workers
    return scores, seconds


def score_tables(
    launch: Launch, space: Space, proxies: list[Proxy], executor: Executor, reporter: Reporter, ledger: Ledger
) -> dict[str, ScoreTable]:
    """Tables of matrix proxies; what they need of the dense network is measured first."""
    if not proxies:
        return {}
    started = time.monotonic()
    needs = sorted(set(chain.from_iterable(proxy.needs for proxy in proxies)))
    blocks = len(launch.network.blocks)
    reporter.phase("what proxies need of the dense network", len(needs))
    for done, need in enumerate(needs, 1):
        list(alive(executor.map("gather", [([need],)])))
        reporter.step(done, need)
    reporter.phase("proxy tables", blocks)
    found: dict[str, dict[str, Tabulated]] = {proxy.name: {} for proxy in proxies}
    results = alive(executor.map("tabulate", [(block, proxies) for block in range(blocks)]))
    for done, each in enumerate(results, 1):
        for name, scores in each.items():
            found[name] |= scores
        reporter.step(done, "blocks")
    reporter.end()
    ledger.add("proxy tables", time.monotonic() - started, 0)
    return {name: ScoreTable.of(space, scores) for name, scores in found.items()}


def _live_scores(proxy: Proxy, genomes: list[Genome], executor: Executor, reporter: Reporter) -> Floats:
    reporter.phase(f"proxy {proxy.name}", len(genomes))
    values, failure = [], ""
    results: Any = alive(executor.map("score", [(genome.data, [proxy]) for genome in genomes]))
    for done, found in enumerate(results, 1):
        value = found[proxy.name]
        failure = value if isinstance(value, str) else failure
        values.append(float("nan") if isinstance(value, str) else value)
        reporter.step(done)
    reporter.end()
    if failure:
        reporter.message(f"SS407 proxy {proxy.name}: {failure}")
    return np.array(values)
