"""Training what was found: candidates, or several copies of each that are averaged into a soup."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.config import load_config
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.engine.launch.prepare import Launch, reopen
from sparsesearch.engine.stores import check_teacher
from sparsesearch.engine.trials import train_all
from sparsesearch.engine.workers import executor as executors
from sparsesearch.engine.workers.trial import Trial
from sparsesearch.engine.workers.worker import Worker, WorkerSetup
from sparsesearch.errors import problem
from sparsesearch.evaluation.evaluator import quality_of
from sparsesearch.files import write_text
from sparsesearch.runs.directory import check_vacant
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.supernet import LevelStore
from sparsesearch.tensors import read_tensors, write_tensors
from sparsesearch.training import greedy_soup
from sparsesearch.training.trainer import RETRAIN, round_to_storage, weights_path

# What of a run's fingerprint may be another for its recovery.
TRAINING = ("training", "data.training", "search.rungs", "learning.tokens")

# Beside the models of a front: how they were trained.
CLAIM = "recovery.json"


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

    @property
    def after(self) -> Evaluation:
        """The candidate as it is now."""
        return replace(self.candidate, quality=self.quality, trained=self.candidate.trained + self.tokens)


def training_data(results: RunResults, source: str, tokens: int) -> dict[str, Any]:
    """`data.training` of a run, from another source: as many samples as are trained on, or what there is."""
    data = load_config(results.run.config).data
    own = data.training or data.calibration
    count = math.ceil(tokens / results.info["length"])
    return own.model_dump() | {"source": source, "sequences": count, "fewer": True}


def prepared(
    results: RunResults, changes: dict[str, Any], tokens: int, copies: int = 1, access: Access = UNTRUSTED
) -> Launch:
    """The run's launch with other training options and data.

    Raises InputError where candidates cannot be trained so, SS602 where something else would change too, SS505 where
    the run's level store or teacher cache is gone.
    """
    rungs = {"search.rungs": [{"tokens": tokens, "candidates": 1}]}
    own, config = load_config(results.run.config), load_config(results.run.config, changes | rungs)
    reread = ("training",) if config.data.training != own.data.training else ()
    launch = reopen(results.run, access, changes | rungs, reread, searches=False)
    if copies > 1 and config.training.method == "compensate":
        raise problem("SS117", "a soup of copies without gradients: all copies are alike.", fix="Leave --soup out.")
    known = results.info["fingerprint"]
    if changed := [k for k, v in launch.fingerprint.items() if k not in TRAINING and known.get(k) != v]:
        raise problem(
            "SS602",
            f"{results.run.path}: {', '.join(changed)} would change, and with it what was searched.",
            fix="Change training, data.training and executor alone.",
        )
    setup = launch.setup(results.run, results.run.path.parent / ".cache")
    supernet = [Path(setup.supernet) / "index.json"] if setup.supernet else []
    for needed in (Path(setup.store) / "index.json", Path(setup.teacher) / "complete", *supernet):
        if not needed.exists():
            raise problem(
                "SS505",
                f"{needed.parent}, which the run needs, is gone.",
                fix=f"'sparsesearch resume {results.run.path}' rebuilds it.",
            )
    LevelStore.open(Path(setup.store), launch.store_key)
    check_teacher(Path(setup.teacher))
    return launch


def claim(out: Path, launch: Launch, copies: int, form: str) -> None:
    """Note in a directory how the models that go there are trained; those that an earlier call wrote may be there.

    Raises InputError SS500 where something else is there, or models that were trained otherwise.
    """
    told = {
        "fingerprint": launch.fingerprint,
        "training": launch.config.training.model_dump(),
        "tokens": launch.config.search.rungs[0].tokens,
        "soup": copies,
        "form": form,
    }
    path, text = out / CLAIM, json.dumps(told, indent=1)
    if not path.exists():
        check_vacant(out)
        write_text(path, text)
    elif path.read_text() != text:
        raise problem("SS500", f"{out} holds models that were trained with other options.", fix="Choose another --out.")


def recover(
    results: RunResults, launch: Launch, candidates: Sequence[Evaluation], copies: int, reporter: Reporter
) -> list[Recovered]:
    """Train candidates, all on the same data; what was trained so already is read, and what diverged left out.

    Args:
        launch: from `prepared`.
        copies: of each candidate, with seeds of their own, averaged greedily.

    Raises SparseSearchError SS408 where training of all diverged.
    """
    run, (rung,) = results.run, launch.config.search.rungs
    base = launch.config.training
    cluster = executors.Cluster(launch.config.executor)
    try:
        with run.locked():
            found: list[list[Trial]] = [[] for _ in candidates]
            for copy in range(copies):
                options = base.model_copy(update={"seed": base.seed + copy})
                one = replace(launch, config=launch.config.model_copy(update={"training": options}))
                trials = train_all(one, run, candidates, rung.tokens, reporter)
                for mine, trial in zip(found, trials, strict=True):
                    mine.append(trial)
            setup = launch.setup(run, run.path.parent / ".cache")
            ended = [_recovered(e, trials, rung.tokens, setup) for e, trials in zip(candidates, found, strict=True)]
    finally:
        cluster.close()
    for candidate, outcome in zip(candidates, ended, strict=True):
        if outcome is None:
            reporter.message(f"SS408 training of {candidate.genome.id} diverged: it is left out.")
    recovered = [one for one in ended if one is not None]
    if not recovered:
        raise problem("SS408", "training of all candidates diverged.", fix="Lower training.learning_rate.")
    return recovered


def _recovered(candidate: Evaluation, trials: Sequence[Trial], tokens: int, setup: WorkerSetup) -> Recovered | None:
    """The candidate from its trained copies; None where all diverged."""
    quality, identity = setup.config.objectives[0], candidate.genome.data
    results = {trial.directory: trial.result(tokens) or {} for trial in trials}
    sound = [place for place, found in results.items() if "losses" in found]
    if not sound:
        return None
    spent = sum(found.get("trained", 0) for found in results.values())
    if len(sound) == 1:
        found = results[sound[0]]
        return Recovered(
            candidate, quality_of(np.array(found["losses"]), quality), weights_path(sound[0], tokens), spent
        )
    worker = Worker(setup)
    soup, chosen = greedy_soup(
        [read_tensors(weights_path(place, tokens), RETRAIN) for place in sound],
        lambda state: quality_of(np.array(worker.losses_of(identity, state)), quality),
    )
    path = sound[0] / f"soup-{len(trials)}.safetensors"
    write_tensors(path, round_to_storage(soup, worker.storage), durable=True)
    final = quality_of(np.array(worker.losses_of(identity, soup)), quality)
    return Recovered(candidate, final, path, spent, len(chosen))
