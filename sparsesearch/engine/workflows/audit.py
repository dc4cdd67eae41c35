"""Audit of proxies: their scores against measured quality, on candidates of equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sparsesearch.arrays import Floats
from sparsesearch.config import Rung
from sparsesearch.engine.controller import AUDIT, with_supernet, write_launch
from sparsesearch.engine.job import Job, open_job
from sparsesearch.engine.launch.checks import check_training
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.launch.plan import check_disk
from sparsesearch.engine.phases.measuring import Measurer
from sparsesearch.engine.phases.scoring import Scores, score_all
from sparsesearch.engine.phases.trials import train_all
from sparsesearch.engine.workers.call_results import Trained
from sparsesearch.errors import problem
from sparsesearch.evaluation.evaluator import quality_of
from sparsesearch.proxies import Proxy, all_proxies, proxies_named
from sparsesearch.proxies.agreement import Agreement, agreement
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation, Proposal
from sparsesearch.space.sampling import equal_cost_genomes, with_default_limit

# Proxies that every other one should beat.
CONTROLS = ("params", "macs", "nonzeros", "random")


@dataclass(frozen=True)
class Audit:
    """The results of an audit.

    Attributes:
        quality: name of the quality.
        limits: limits that all candidates fill.
        candidates: evaluations of the candidates.
        scores: scores by proxy, (candidates,), nan if it failed.
        seconds: seconds per candidate by proxy, without measurements made once for all.
        agreements: agreements of proxies with the quality, best first.
        training_tokens: training tokens of each candidate; 0 for none.
        trained_qualities: qualities after training, (candidates,), nan if it diverged; empty without training.
        trained_agreements: agreements with these, by proxy and for the quality before training.
    """

    quality: str
    limits: list[str]
    candidates: list[Evaluation]
    scores: Scores
    seconds: dict[str, float]
    agreements: list[Agreement]
    training_tokens: int
    trained_qualities: Floats
    trained_agreements: dict[str, Agreement]


def with_limits(launch: Launch) -> Launch:
    """Return the launch, with a limit in the middle of the range of its first cost if its recipe has none."""
    space = with_default_limit(launch.space, launch.config.objectives[1])
    if space is launch.space:
        return launch
    config = launch.config.model_copy(update={"limits": [bound.text for bound in space.bounds]})
    return replace(launch, config=config, space=space)


def choose_proxies(launch: Launch, names: Sequence[str]) -> list[Proxy]:
    """Return proxies by name and the controls; without names, all that can score this network.

    Raises InputError SS102 for an unknown proxy, SS116 for one that cannot score this network.
    """
    network, samples = launch.network, launch.samples["calibration"]
    if not names:
        return [proxy for proxy in all_proxies().values() if not proxy.obstacle(network, samples)]
    proxies = proxies_named(names)
    for proxy in proxies:
        if reason := proxy.obstacle(network, samples):
            raise problem("SS116", f"proxy {proxy.name}: {reason}.", fix="Leave it out of the proxies (--proxies).")
    return proxies + [control for control in proxies_named(CONTROLS) if control not in proxies]


def with_training(launch: Launch, tokens: int) -> Launch:
    """Return the launch with a rung of training; raises InputError if its candidates cannot be trained so."""
    search = launch.config.search.model_copy(update={"rungs": [Rung(tokens=tokens, candidates=1)]})
    config = launch.config.model_copy(update={"search": search})
    check_training(config, launch.network, launch.space, launch.samples, tokens)
    return replace(launch, config=config)


def audit(
    launch: Launch, path: Path, proxies: Sequence[Proxy], samples: int, tokens: int, train: int, reporter: Reporter
) -> Audit:
    """Draw candidates of equal cost, measure and score them; the same call continues after an interruption.

    Args:
        launch: a launch with limits, as `with_limits` returns it.
        path: directory of the audit.
        samples: number of candidates.
        tokens: selection tokens on which each is measured; 0 for all of them.
        train: training tokens of each, after which it is measured again; 0 for none.

    Raises InputError if candidates cannot be trained, or SS602 if `path` holds something else; SparseSearchError SS403
    if no candidate can be measured.
    """
    training_launch = with_training(launch, train) if train else launch
    run = _directory(launch, path)
    command = "the same audit command"
    with open_job(launch, run, reporter, lambda: _write(launch, run), resume_command=command) as opened:
        job = with_supernet(opened)
        genomes = equal_cost_genomes(job.space, samples, np.random.default_rng(launch.config.search.seed))
        reporter.phase("measuring", len(genomes))
        candidates = Measurer(job).evaluate([Proposal(g, tokens, 0, "sample", role="probe") for g in genomes])
        reporter.end()
        measured = [e for e in candidates if e.status == "ok"]
        if not measured:
            raise problem("SS403", f"none of {len(candidates)} candidates could be measured.")
        scores, seconds = score_all(job, proxies, [e.genome for e in measured])
        job.executor.release()
        training_job = replace(job, launch=training_launch)
        trained_qualities = _train_candidates(training_job, measured, train) if train else np.array([])
    values = np.array([e.quality for e in measured])
    agreements = [agreement(name, proxy_scores, values) for name, proxy_scores in scores.items()]
    agreements.sort(key=lambda a: -a.tau if np.isfinite(a.tau) else np.inf)
    quality = launch.config.objectives[0]
    return Audit(
        quality=quality,
        limits=launch.config.limits,
        candidates=measured,
        scores=scores,
        seconds=seconds,
        agreements=agreements,
        training_tokens=train,
        trained_qualities=trained_qualities,
        trained_agreements=_agreements(scores | {quality: values}, trained_qualities) if train else {},
    )


def _train_candidates(job: Job, candidates: Sequence[Evaluation], tokens: int) -> Floats:
    """Train candidates; returns their qualities after it, (candidates,), nan if it diverged."""
    config = job.launch.config
    trials = train_all(job, candidates, tokens, config.training, job.launch.fingerprint)
    results = [trial.result(tokens) for trial in trials]
    quality = config.objectives[0]
    return np.array([quality_of(np.array(r.losses), quality) if isinstance(r, Trained) else np.nan for r in results])


def _agreements(scores: Scores, values: Floats) -> dict[str, Agreement]:
    """Return agreements by proxy, over the candidates with a finite value."""
    valid = np.isfinite(values)
    return {name: agreement(name, proxy_scores[valid], values[valid]) for name, proxy_scores in scores.items()}


def _directory(launch: Launch, path: Path) -> RunDirectory:
    """Return the audit's directory; raises InputError SS602 if it holds another audit or a run."""
    if not (path / "run.yaml").exists():
        check_disk(launch, path.parent)
        RunDirectory.check_new(path)
        return RunDirectory(path.resolve())
    if RunResults(path).info["fingerprint"] != launch.fingerprint:
        raise problem("SS602", f"{path} holds another audit or a run.", fix="Use another name (--name).")
    return RunDirectory.open(path)


def _write(launch: Launch, run: RunDirectory) -> None:
    if not run.config.exists():
        write_launch(launch, run, AUDIT)
