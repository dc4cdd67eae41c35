"""Short training runs of many candidates: as Ray Tune trials, or one after another without Ray."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparsesearch.config import TrainingConfig
from sparsesearch.engine.job import Job
from sparsesearch.engine.workers.call_results import DivergedTraining, TrainingResult
from sparsesearch.engine.workers.ray_trials import train_on_ray
from sparsesearch.engine.workers.setup import WorkerSetup
from sparsesearch.engine.workers.trial import TrainingCallback, Trial, climb
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import problem
from sparsesearch.process_state import no_progress_bars, torch_threads
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.searchers import Evaluation
from sparsesearch.training.trainer import weights_path


def kept_weights(run: RunDirectory, candidate: Evaluation) -> Path | None:
    """Return the file of a candidate's trained weights; None if it was not trained or they are not kept."""
    path = weights_path(run.trials / candidate.genome.id, candidate.trained)
    return path if candidate.trained and path.exists() else None


def train_all(
    job: Job, candidates: Sequence[Evaluation], tokens: int, options: TrainingConfig, fingerprint: Mapping[str, Any]
) -> list[Trial]:
    """Train candidates for a number of tokens, all on the same data in the same order; finished trainings are read.

    Candidates with weights from rungs of training start from these.

    Args:
        options: options of the training.
        fingerprint: everything else that the result depends on.
    """
    run, training = job.run, options.model_dump()
    text = json.dumps([training, tokens, {**fingerprint, "training": training}], sort_keys=True)
    directory = run.path / "recovered" / hashlib.sha256(text.encode()).hexdigest()[:12]
    trials = []
    for candidate in candidates:
        start = kept_weights(run, candidate)
        name = f"{candidate.genome.id}-{candidate.trained}" if start else candidate.genome.id
        trials.append(Trial(candidate.genome, (tokens,), tokens, directory / name, start=start))
    job.reporter.phase(f"training {len(trials)} ({options.method}), tokens", len(trials) * tokens)
    setup = replace(job.setup, config=job.setup.config.model_copy(update={"training": options}))
    train(replace(job, setup=setup), trials, "training")
    return trials


def train(job: Job, trials: Sequence[Trial], phase: str, keep: float | None = None) -> None:
    """Train trials to their token counts; finished trainings are neither repeated nor recorded again.

    Args:
        phase: phase of the ledger, which gets a line for each training that ends.
        keep: share of trials that continues after each token count, decided as results come in (ASHA, Li et al.,
            2020); None trains all to the end. Only under Ray.

    Raises SparseSearchError SS400 if a trial has no result at its first token count.
    """
    before = {(trial, count) for trial in trials for count in trial.tokens if trial.result(count) is not None}
    ended, last = set[tuple[Trial, int]](), time.monotonic()

    def record(trial: Trial, count: int, result: TrainingResult) -> None:
        nonlocal last
        if (trial, count) not in before | ended:
            now = time.monotonic()
            job.ledger.add(phase, now - last, result.tokens, device_seconds=result.seconds)
            last = now
            if isinstance(result, DivergedTraining):
                job.reporter.message(f"SS408 candidate {trial.genome.id}: {result.diverged}; it stays at its rung.")
        ended.add((trial, count))
        show_progress()

    def show_progress() -> None:
        job.reporter.step(sum(trial.trained for trial in trials))

    if job.setup.config.executor.kind == "ray":
        train_on_ray(job.setup, trials, job.run.path / "tune", record, show_progress, keep)
    else:
        _train_locally(job.setup, trials, record, show_progress)
    job.reporter.end()
    if lost := [trial.genome.id for trial in trials if trial.result(trial.tokens[0]) is None]:
        raise problem("SS400", f"training of {', '.join(lost)} ended early.")


def _train_locally(
    setup: WorkerSetup, trials: Sequence[Trial], ended: TrainingCallback, show_progress: Callable[[], None]
) -> None:
    """Run trials one after another, in this process."""
    worker = Worker(setup)
    with torch_threads(setup.config.executor.threads), no_progress_bars():
        for trial in trials:
            for tokens in trial.tokens:
                result = climb(worker, trial, tokens, show_progress)
                ended(trial, tokens, result)
                if isinstance(result, DivergedTraining):
                    break
