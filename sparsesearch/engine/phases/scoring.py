"""Scores of candidates by proxies, on workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from sparsesearch.arrays import Floats
from sparsesearch.engine.job import Job
from sparsesearch.engine.phases.stores import sole_builder
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.proxies import CostedGenome, Proxy
from sparsesearch.proxies.gatherer import Failure, Score, score_with
from sparsesearch.proxies.score_table import MatrixScores, ScoreTable
from sparsesearch.runs.progress import Reporter
from sparsesearch.space import Genome

Scores = dict[str, Floats]


def score_all(job: Job, proxies: Sequence[Proxy], genomes: list[Genome]) -> tuple[Scores, dict[str, float]]:
    """Score genomes by proxies on workers.

    Returns:
        Scores by proxy, (genomes,), nan if the proxy failed; and seconds per candidate by proxy.
    """
    reads = {kind: [p for p in proxies if p.reads == kind] for kind in ("costs", "matrix", "network")}
    scores, seconds = {}, {}
    for proxy in reads["costs"]:
        costed = [CostedGenome(genome, job.space.costs.named(genome.levels)) for genome in genomes]
        started = time.monotonic()
        scores[proxy.name] = _numbers(proxy.name, [score_with(proxy, candidate) for candidate in costed], job.reporter)
        seconds[proxy.name] = (time.monotonic() - started) / len(genomes)
    tables = score_tables(job, reads["matrix"])
    levels = np.array([genome.levels for genome in genomes])
    for proxy in reads["matrix"]:
        started, table = time.monotonic(), tables.get(proxy.name)
        scores[proxy.name] = np.full(len(genomes), np.nan) if table is None else table.scores(levels)
        seconds[proxy.name] = (time.monotonic() - started) / len(genomes)
    config = job.launch.config.executor
    lanes = config.workers if config.kind == "ray" else 1
    for proxy in reads["network"]:
        started = time.monotonic()
        scores[proxy.name] = _network_scores(job, proxy, genomes)
        job.ledger.add(f"proxy {proxy.name}", time.monotonic() - started, 0)
        seconds[proxy.name] = (time.monotonic() - started) / len(genomes) * lanes
    return scores, seconds


def score_tables(job: Job, proxies: list[Proxy]) -> dict[str, ScoreTable]:
    """Gather the quantities that matrix proxies need, and return the tables of those that do not fail."""
    if not proxies:
        return {}
    started, executor, reporter = time.monotonic(), job.executor, job.reporter
    needs = sorted(set(chain.from_iterable(proxy.needs for proxy in proxies)))
    blocks = len(job.launch.network.blocks)
    reporter.phase("proxies' needs of the dense network", len(needs))
    with sole_builder(Path(job.setup.statistics), reporter), sole_builder(Path(job.setup.store), reporter):
        for done, need in enumerate(needs, 1):
            executor.run(Worker.gather, [need])
            reporter.step(done, need)
    reporter.phase("proxy tables", blocks)
    tables: dict[str, dict[str, MatrixScores]] = {proxy.name: {} for proxy in proxies}
    failed = set[str]()
    results = executor.map(Worker.tabulate, [(block, proxies) for block in range(blocks)])
    for done, by_proxy in enumerate(results, 1):
        for name, scores in by_proxy.items():
            if isinstance(scores, Failure):
                _report_failure(name, scores, reporter)
                failed.add(name)
            else:
                tables[name] |= scores
        reporter.step(done, "blocks")
    reporter.end()
    job.ledger.add("proxy tables", time.monotonic() - started, 0)
    return {name: ScoreTable.of(job.space, scores) for name, scores in tables.items() if name not in failed}


def _network_scores(job: Job, proxy: Proxy, genomes: list[Genome]) -> Floats:
    """Return scores by a proxy that runs the network, (genomes,), nan where it failed."""
    job.reporter.phase(f"proxy {proxy.name}", len(genomes))
    values = []
    results = job.executor.map(Worker.score, [(genome.data, [proxy]) for genome in genomes])
    for done, scores in enumerate(results, 1):
        values.append(scores[proxy.name])
        job.reporter.step(done)
    job.reporter.end()
    return _numbers(proxy.name, values, job.reporter)


def _numbers(proxy: str, values: Sequence[Score], reporter: Reporter) -> Floats:
    """Return scores, (values,), nan where the proxy failed; the first failure is reported."""
    failure = next((value for value in values if isinstance(value, Failure)), None)
    if failure is not None:
        _report_failure(proxy, failure, reporter)
    return np.array([np.nan if isinstance(value, Failure) else value for value in values])


def _report_failure(proxy: str, failure: Failure, reporter: Reporter) -> None:
    reporter.message(f"SS407 proxy {proxy}: {failure.reason}")
