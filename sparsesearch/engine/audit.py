"""Proxies against what is measured, on candidates of equal cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.engine import executors
from sparsesearch.engine.controller import supernet, write_launch
from sparsesearch.engine.directory import RunDirectory
from sparsesearch.engine.executors import Executor, alive
from sparsesearch.engine.launch import CLASSES, Launch, check_disk
from sparsesearch.engine.ledger import Ledger
from sparsesearch.engine.measuring import Measurer
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.results import RunResults
from sparsesearch.errors import InputError
from sparsesearch.proxies import Costed, Proxy, all_proxies, proxies_named
from sparsesearch.proxies.audit import Agreement, Floats, agreement
from sparsesearch.proxies.table import ScoreTable, Tabulated
from sparsesearch.searchers import Evaluation, Proposal
from sparsesearch.space import Genome, Limit, Space
from sparsesearch.space.sampling import equal_cost_genomes

# What a proxy has to beat.
CONTROLS = ("params", "macs", "nonzeros", "random")
# Size at which candidates are drawn where the recipe has no limit: this share of the way from the smallest to dense.
MIDDLE = 0.5
Scores = dict[str, Floats]


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        quality: name of the quality.
        limits: that all candidates fill.
        candidates: their evaluations.
        scores: of every proxy, (candidates,), nan where it failed.
        seconds: that each proxy took for one candidate, without what it measures once.
        agreements: with the quality, best first.
    """

    quality: str
    limits: list[str]
    candidates: list[Evaluation]
    scores: Scores
    seconds: dict[str, float]
    agreements: list[Agreement]


def limited(launch: Launch) -> Launch:
    """The launch itself where its recipe has limits, else with one in the middle of the range of its first cost."""
    space = launch.space
    if space.bounds:
        return launch
    cost = launch.config.objectives[1]
    smallest, dense = space.costs.named(space.smallest.levels)[cost], space.dense_costs[cost]
    limit = f"{cost}<={int(smallest + MIDDLE * (dense - smallest))}"
    config = launch.config.model_copy(update={"limits": [limit]})
    return replace(launch, config=config, space=space.with_limits([Limit.parse(limit)]))


def chosen(launch: Launch, names: Sequence[str]) -> list[Proxy]:
    """Proxies by name, or all that can score this network where none is named; the controls are always among them.

    Raises InputError SS102 for an unknown one, SS116 for one that cannot score this network.
    """
    if not names:
        return [proxy for proxy in all_proxies().values() if not obstacle(launch, proxy)]
    wanted = proxies_named(names)
    for proxy in wanted:
        if reason := obstacle(launch, proxy):
            raise InputError("SS116", f"proxy {proxy.name}: {reason}.", "Leave it out of --proxies.")
    return wanted + [control for control in proxies_named(CONTROLS) if control not in wanted]


def obstacle(launch: Launch, proxy: Proxy) -> str:
    """Why a proxy cannot score a launch's network; nothing where it can."""
    task, samples = launch.network.task, launch.samples["calibration"]
    if proxy.refuses is not None and (reason := proxy.refuses(launch.network)):
        return reason
    if proxy.supervised and task.name.endswith("embedding"):
        return "it needs a loss, and a model without a head has none"
    if proxy.supervised and task.name in CLASSES and samples.labels is None:
        return "it needs labels, and the calibration data have none"
    return ""


def audit(launch: Launch, path: Path, proxies: Sequence[Proxy], samples: int, tokens: int, reporter: Reporter) -> Audit:
    """Draw candidates of equal cost, measure them, score them; the same call goes on after an interruption.

    Args:
        launch: with limits.
        samples: candidates.
        tokens: selection tokens on which each is measured; 0 is all of them.
    """
    cluster = executors.Cluster(launch.config.executor)
    try:
        run = _directory(launch, path)
        with run.locked(), supernet(launch, run, reporter) as (space, executor, ledger, _):
            genomes = equal_cost_genomes(space, samples, np.random.default_rng(launch.config.search.seed))
            measurer = Measurer(launch, run, space, executor, reporter, ledger)
            reporter.phase("measuring", len(genomes))
            candidates = measurer.evaluate([Proposal(genome, tokens, 0, "sample") for genome in genomes])
            reporter.end()
            measured = [e for e in candidates if e.status == "ok"]
            scores, seconds = scored(launch, space, proxies, [e.genome for e in measured], executor, reporter, ledger)
    finally:
        cluster.close()
    values = np.array([e.quality for e in measured])
    agreements = [agreement(name, mine, values) for name, mine in scores.items()]
    agreements.sort(key=lambda a: -a.tau if np.isfinite(a.tau) else np.inf)
    return Audit(launch.config.objectives[0], launch.config.limits, measured, scores, seconds, agreements)


def _directory(launch: Launch, path: Path) -> RunDirectory:
    if (path / "run.yaml").exists():
        if RunResults(path).info["fingerprint"] != launch.fingerprint:
            raise InputError("SS602", f"{path} is something else than this audit.", "Use another --name.")
        return RunDirectory.open(path)
    check_disk(launch, path.parent)
    run = RunDirectory.create(path)
    write_launch(launch, run)
    return run


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
    tables = _tables(launch, space, reads["matrix"], executor, reporter, ledger)
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


def _tables(
    launch: Launch, space: Space, proxies: list[Proxy], executor: Executor, reporter: Reporter, ledger: Ledger
) -> dict[str, ScoreTable]:
    """Tables of matrix proxies; what they need of the dense network is measured first."""
    if not proxies:
        return {}
    started = time.monotonic()
    needs = sorted(set(chain.from_iterable(proxy.needs for proxy in proxies)))
    blocks = len(launch.network.blocks)
    reporter.phase("proxy tables", blocks)
    list(alive(executor.map("gather", [(needs,)])))
    found: dict[str, dict[str, Tabulated]] = {proxy.name: {} for proxy in proxies}
    results = alive(executor.map("tabulate", [(block, proxies) for block in range(blocks)]))
    for done, each in enumerate(results, 1):
        for name, scores in each.items():
            found[name] |= scores
        reporter.step(done, "blocks")
    reporter.end()
    ledger.add("proxy tables", time.monotonic() - started, 0)
    return {name: ScoreTable(space, scores) for name, scores in found.items()}


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
