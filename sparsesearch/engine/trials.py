"""Short training runs of many candidates: as Ray Tune trials, or one after another where there is no Ray."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.workers.ray_trials import train_on_ray
from sparsesearch.engine.workers.trial import Ended, Trial, climb
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.engine.workers.setup import WorkerSetup
from sparsesearch.errors import problem
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.searchers import Evaluation
from sparsesearch.training.trainer import weights_path


def kept_weights(run: RunDirectory, candidate: Evaluation) -> Path | None:
    """The file of weights that rungs of training gave a candidate; None where there were none, or none are kept."""
    path = weights_path(run.trials / candidate.genome.id, candidate.trained)
    return path if candidate.trained and path.exists() else None


def train_all(
    launch: Launch, run: RunDirectory, candidates: Sequence[Evaluation], tokens: int, reporter: Reporter
) -> list[Trial]:
    """Train candidates for a number of tokens, all on the same data in the same order; what was trained so is read.

    Those that a ladder has trained go on from the weights it left. A `Cluster` must be connected where the executor is
    Ray.
    """
    config, setup = launch.config, launch.setup(run, run.path.parent / ".cache")
    told = json.dumps([config.training.model_dump(), tokens, launch.fingerprint], sort_keys=True)
    place = run.path / "recovered" / hashlib.sha256(told.encode()).hexdigest()[:12]
    trials = []
    for one in candidates:
        start = kept_weights(run, one)
        name = f"{one.genome.id}-{one.trained}" if start else one.genome.id
        trials.append(Trial(one.genome, (tokens,), tokens, place / name, start=start))
    reporter.phase(f"training {len(trials)} ({config.training.method}), tokens", len(trials) * tokens)
    train(setup, trials, run, reporter, Ledger(run), "training")
    return trials


def train(
    setup: WorkerSetup,
    trials: Sequence[Trial],
    run: RunDirectory,
    reporter: Reporter,
    ledger: Ledger,
    phase: str,
    keep: float | None = None,
) -> None:
    """Train trials to their token counts; what is done already is neither done nor paid for again.

    Args:
        phase: of the ledger, which has a line for each training that ends.
        keep: share of trials that goes on after each token count, decided as results come in (ASHA, Li et al., 2020);
            None trains all to the end. Only under Ray.

    Raises SparseSearchError SS400 where trials did not come to their end.
    """
    known = {(trial, at) for trial in trials for at in trial.tokens if trial.result(at) is not None}
    ended, last = set[tuple[Trial, int]](), time.monotonic()

    def note(trial: Trial, at: int, found: dict[str, Any]) -> None:
        nonlocal last
        if (trial, at) not in known | ended:
            now = time.monotonic()
            ledger.add(phase, now - last, found["tokens"], device_seconds=found["seconds"])
            last = now
            if "diverged" in found:
                reporter.message(f"SS408 candidate {trial.genome.id}: {found['diverged']}; it keeps its rung.")
        ended.add((trial, at))
        tell()

    def tell() -> None:
        reporter.step(sum(trial.trained for trial in trials))

    if setup.config.executor.kind == "ray":
        train_on_ray(setup, trials, run.path / "tune", note, tell, keep)
    else:
        train_locally(setup, trials, note, tell)
    reporter.end()
    if lost := [trial.genome.id for trial in trials if trial.result(trial.tokens[0]) is None]:
        raise problem("SS400", f"training of {', '.join(lost)} ended early.")


def train_locally(setup: WorkerSetup, trials: Sequence[Trial], ended: Ended, tell: Callable[[], None]) -> None:
    """Trials one after another, in this process."""
    worker = Worker(setup)
    for trial in trials:
        for tokens in trial.tokens:
            found = climb(worker, trial, tokens, tell)
            ended(trial, tokens, found)
            if "diverged" in found:
                break
