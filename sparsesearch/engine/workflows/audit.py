"""Proxies against what is measured, on candidates of equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sparsesearch.arrays import Floats
from sparsesearch.config import Rung
from sparsesearch.engine.controller import AUDIT, supernet, write_launch
from sparsesearch.engine.launch.checks import check_training
from sparsesearch.engine.launch.prepare import Launch, check_disk
from sparsesearch.engine.measuring import Measurer
from sparsesearch.engine.scoring import Scores, scored
from sparsesearch.engine.trials import train_all
from sparsesearch.engine.workers import executor as executors
from sparsesearch.errors import problem
from sparsesearch.evaluation.evaluator import quality_of
from sparsesearch.proxies import Proxy, all_proxies, proxies_named
from sparsesearch.proxies.agreement import Agreement, agreement
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation, Proposal
from sparsesearch.space.sampling import equal_cost_genomes, with_default_limit

# What a proxy has to beat.
CONTROLS = ("params", "macs", "nonzeros", "random")


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
        train: training tokens of each candidate; 0: none.
        trained: qualities after training, (candidates,), nan where it diverged; empty without training.
        after: agreements with them, by proxy; the quality before training is among them.
    """

    quality: str
    limits: list[str]
    candidates: list[Evaluation]
    scores: Scores
    seconds: dict[str, float]
    agreements: list[Agreement]
    train: int
    trained: Floats
    after: dict[str, Agreement]


def limited(launch: Launch) -> Launch:
    """The launch itself where its recipe has limits, else with one in the middle of the range of its first cost."""
    space = with_default_limit(launch.space, launch.config.objectives[1])
    if space is launch.space:
        return launch
    config = launch.config.model_copy(update={"limits": [bound.text for bound in space.bounds]})
    return replace(launch, config=config, space=space)


def chosen(launch: Launch, names: Sequence[str]) -> list[Proxy]:
    """Proxies by name, or all that can score this network where none is named; the controls are always among them.

    Raises InputError SS102 for an unknown one, SS116 for one that cannot score this network.
    """
    scored_on = launch.network, launch.samples["calibration"]
    if not names:
        return [proxy for proxy in all_proxies().values() if not proxy.obstacle(*scored_on)]
    wanted = proxies_named(names)
    for proxy in wanted:
        if reason := proxy.obstacle(*scored_on):
            raise problem("SS116", f"proxy {proxy.name}: {reason}.", fix="Leave it out of --proxies.")
    return wanted + [control for control in proxies_named(CONTROLS) if control not in wanted]


def with_training(launch: Launch, tokens: int) -> Launch:
    """The launch with a rung of training; raises InputError where its candidates cannot be trained so."""
    search = launch.config.search.model_copy(update={"rungs": [Rung(tokens=tokens, candidates=1)]})
    config = launch.config.model_copy(update={"search": search})
    check_training(config, launch.network, launch.space, launch.samples, tokens)
    return replace(launch, config=config)


def audit(
    launch: Launch, path: Path, proxies: Sequence[Proxy], samples: int, tokens: int, train: int, reporter: Reporter
) -> Audit:
    """Draw candidates of equal cost, measure them, score them; the same call goes on after an interruption.

    Args:
        launch: with limits.
        samples: candidates.
        tokens: selection tokens on which each is measured; 0 is all of them.
        train: training tokens of each, after which it is measured again; 0: none.

    Raises InputError where candidates cannot be trained.
    """
    trained = with_training(launch, train) if train else None
    cluster = executors.Cluster(launch.config.executor)
    try:
        run = _directory(launch, path)
        with (
            run.locked(),
            supernet(launch, run, reporter, "the same audit command") as (space, executor, ledger, setup),
        ):
            genomes = equal_cost_genomes(space, samples, np.random.default_rng(launch.config.search.seed))
            measurer = Measurer(launch, run, space, executor, reporter, ledger)
            reporter.phase("measuring", len(genomes))
            candidates = measurer.evaluate([Proposal(genome, tokens, 0, "sample") for genome in genomes])
            reporter.end()
            measured = [e for e in candidates if e.status == "ok"]
            if not measured:
                raise problem("SS403", f"none of {len(candidates)} candidates could be measured.")
            genomes = [e.genome for e in measured]
            scores, seconds = scored(launch, setup, space, proxies, genomes, executor, reporter, ledger)
            executor.release()
            after = np.array([]) if trained is None else _after(trained, run, measured, train, reporter)
    finally:
        cluster.close()
    values = np.array([e.quality for e in measured])
    agreements = [agreement(name, mine, values) for name, mine in scores.items()]
    agreements.sort(key=lambda a: -a.tau if np.isfinite(a.tau) else np.inf)
    quality = launch.config.objectives[0]
    with_after = _agreements(scores | {quality: values}, after) if train else {}
    return Audit(quality, launch.config.limits, measured, scores, seconds, agreements, train, after, with_after)


def _after(
    launch: Launch, run: RunDirectory, candidates: Sequence[Evaluation], tokens: int, reporter: Reporter
) -> Floats:
    """Qualities after training, (candidates,); nan where it diverged."""
    found = [trial.result(tokens) or {} for trial in train_all(launch, run, candidates, tokens, reporter)]
    quality = launch.config.objectives[0]
    return np.array([quality_of(np.array(f["losses"]), quality) if "losses" in f else np.nan for f in found])


def _agreements(scores: Scores, values: Floats) -> dict[str, Agreement]:
    """By proxy, over the candidates that have a value."""
    valid = np.isfinite(values)
    return {name: agreement(name, mine[valid], values[valid]) for name, mine in scores.items()}


def _directory(launch: Launch, path: Path) -> RunDirectory:
    if (path / "run.yaml").exists():
        if RunResults(path).info["fingerprint"] != launch.fingerprint:
            raise problem("SS602", f"{path} is something else than this audit.", fix="Use another --name.")
        return RunDirectory.open(path)
    check_disk(launch, path.parent)
    run = RunDirectory.create(path)
    write_launch(launch, run, AUDIT)
    return run
