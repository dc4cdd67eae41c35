"""Training what was found: candidates, or several copies of each that are averaged into a soup."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from sparsesearch.config import load_config
from sparsesearch.engine import executors
from sparsesearch.engine.launch import Launch, prepare
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.results import RunResults
from sparsesearch.engine.trials import train_all
from sparsesearch.engine.worker import Worker, WorkerSetup
from sparsesearch.errors import InputError, SparseSearchError
from sparsesearch.evaluation.evaluator import quality_of
from sparsesearch.searchers import Evaluation
from sparsesearch.training import greedy_soup
from sparsesearch.training.trial import MERGED

# What of a run's fingerprint may be another for its recovery.
TRAINING = ("training", "data.training", "search.rungs")


@dataclass(frozen=True)
class Recovered:
    """A candidate after training.

    Attributes:
        candidate: as it was, with the quality it had.
        quality: after training, on the same data.
        weights: safetensors file of its weights.
        tokens: of training, all copies together.
        copies: how many went into the soup.
    """

    candidate: Evaluation
    quality: float
    weights: Path
    tokens: int
    copies: int = 1


def prepared(results: RunResults, changes: dict[str, Any], tokens: int) -> Launch:
    """The run's launch with other training options and data.

    Raises InputError where candidates cannot be trained so, SS602 where something else would change too.
    """
    rungs = {"search.rungs": [{"tokens": tokens, "candidates": 1}]}
    own, config = load_config(results.run.config), load_config(results.run.config, changes | rungs)
    other = config.data.training != own.data.training
    launch = prepare(config, saved=results.run, reread=("training",) if other else ())
    known = results.info["fingerprint"]
    if changed := [k for k, v in launch.fingerprint.items() if k not in TRAINING and known.get(k) != v]:
        raise InputError(
            "SS602", f"{results.run.path}: {', '.join(changed)} would change, and with it what was searched.",
            "Change training, data.training and executor alone.",
        )  # fmt: skip
    return launch


def recover(
    results: RunResults, launch: Launch, candidates: Sequence[Evaluation], copies: int, reporter: Reporter
) -> list[Recovered]:
    """Train candidates, all on the same data; what was trained so already is read.

    Args:
        launch: from `prepared`.
        copies: of each candidate, with seeds of their own, averaged greedily.

    Raises SparseSearchError SS408 where training diverged.
    """
    run, (rung,) = results.run, launch.config.search.rungs
    base = launch.config.training
    cluster = executors.Cluster(launch.config.executor)
    try:
        with run.locked():
            found: list[list[Path]] = [[] for _ in candidates]
            for copy in range(copies):
                options = base.model_copy(update={"seed": base.seed + copy})
                config = launch.config.model_copy(update={"training": options})
                one = replace(launch, config=config)
                places = _train(one, results, candidates, rung.tokens, reporter)
                for mine, place in zip(found, places, strict=True):
                    mine.append(place)
            setup = launch.setup(run, run.path.parent / ".cache")
            return [
                _recovered(candidate, places, rung.tokens, setup)
                for candidate, places in zip(candidates, found, strict=True)
            ]
    finally:
        cluster.close()


def _train(
    launch: Launch, results: RunResults, candidates: Sequence[Evaluation], tokens: int, reporter: Reporter
) -> list[Path]:
    """Directories of trained candidates; raises SparseSearchError SS408."""
    trials = train_all(launch, results.run, [e.genome for e in candidates], tokens, reporter)
    for trial in trials:
        if why := (trial.result(tokens) or {"diverged": "no result"}).get("diverged"):
            raise SparseSearchError(
                "SS408", f"training of {trial.genome.id} diverged: {why}.", "Lower training.learning_rate."
            )
    return [trial.directory for trial in trials]


def _recovered(candidate: Evaluation, places: Sequence[Path], tokens: int, setup: WorkerSetup) -> Recovered:
    """The candidate from its trained copies."""
    quality = setup.config.objectives[0]
    results = [json.loads((place / f"{tokens}.json").read_text()) for place in places]
    spent = tokens * len(places)
    if len(places) == 1:
        return Recovered(candidate, quality_of(np.array(results[0]["losses"]), quality), places[0] / MERGED, spent)
    worker = Worker(setup)
    soup, chosen = greedy_soup(
        [load_file(place / MERGED) for place in places],
        lambda state: quality_of(np.array(worker.losses_of(candidate.genome.data, state)), quality),
    )
    path = places[0] / f"soup-{len(places)}.safetensors"
    save_file(soup, path)
    final = quality_of(np.array(worker.losses_of(candidate.genome.data, soup)), quality)
    return Recovered(candidate, final, path, spent, len(chosen))
