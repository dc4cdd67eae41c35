"""Short training runs of many candidates: as Ray Tune trials, or one after another where there is no Ray.

What a trial ends with is a file of its own, so that nothing that was paid for is lost whoever dies, and a controller
that comes back finds it. Tune decides who runs where and when; with `asha` also who goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsesearch.engine import interrupts
from sparsesearch.engine.directory import RunDirectory
from sparsesearch.engine.launch import Launch
from sparsesearch.engine.ledger import Ledger
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.worker import Worker, WorkerSetup
from sparsesearch.errors import SparseSearchError
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome
from sparsesearch.training.loop import tokens_of
from sparsesearch.training.trial import CHECKPOINT, weights_path

# Times that a trial is started again after its worker died.
RETRIES = 2
# Seconds between two looks at checkpoints of other processes.
LOOK = 2.0


@dataclass(frozen=True)
class Trial:
    """A candidate to train.

    Attributes:
        genome: of the candidate.
        tokens: at which it is measured, rising; it is trained to the last.
        whole: tokens that its learning-rate schedule is made for.
        directory: of its checkpoint and results.
        yardstick: the quality that its scores are relative to: what is expected of a candidate of its size.
        start: weights that training begins with; those of the supernet where None.
    """

    genome: Genome
    tokens: tuple[int, ...]
    whole: int
    directory: Path
    yardstick: float = 1.0
    start: Path | None = None

    def result_path(self, tokens: int) -> Path:
        return self.directory / f"{tokens}.json"

    def result(self, tokens: int) -> dict[str, Any] | None:
        """What a rung ended with; None where it has not."""
        try:
            found: dict[str, Any] = json.loads(self.result_path(tokens).read_text())
        except (OSError, ValueError):
            return None
        return found

    @property
    def trained(self) -> int:
        """Tokens that it has been trained on so far, by its files."""
        done = max((at for at in self.tokens if self.result_path(at).exists()), default=0)
        return max(done, tokens_of(self.directory / CHECKPOINT))


# Told of each training that has ended: the trial, its token count, and what it ended with.
Ended = Callable[[Trial, int, dict[str, Any]], None]


def climb(worker: Worker, trial: Trial, tokens: int, tell: Callable[[], None]) -> dict[str, Any]:
    """Train a candidate to one of its token counts, unless that is done already; tells of checkpoints on the way."""
    done = trial.result(tokens)
    if done is not None:
        return done
    trial.directory.mkdir(parents=True, exist_ok=True)
    found = worker.train(trial.genome.data, tokens, trial.whole, trial.directory, trial.start, tell)
    temporary = trial.result_path(tokens).with_suffix(".tmp")
    temporary.write_text(json.dumps(found))
    temporary.replace(trial.result_path(tokens))
    return found


def score(found: dict[str, Any], trial: Trial) -> float:
    """The scalar that a scheduler compares trials of all sizes by, lower is better; infinite where it diverged."""
    losses: list[float] = found.get("losses", [])
    if not losses:
        return float("inf")
    # A quality of the user's own may be negative.
    return (sum(losses) / len(losses) - trial.yardstick) / max(abs(trial.yardstick), 1e-12)


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
        raise SparseSearchError("SS400", f"training of {lost[0]} and {len(lost) - 1} others ended early.")


def train_locally(setup: WorkerSetup, trials: Sequence[Trial], ended: Ended, tell: Callable[[], None]) -> None:
    """Trials one after another, in this process."""
    worker = Worker(setup)
    for trial in trials:
        for tokens in trial.tokens:
            found = climb(worker, trial, tokens, tell)
            ended(trial, tokens, found)
            if "diverged" in found:
                break


def train_on_ray(
    setup: WorkerSetup,
    trials: Sequence[Trial],
    storage: Path,
    ended: Ended,
    tell: Callable[[], None],
    keep: float | None = None,
) -> None:
    """Trials under Ray Tune, as many at a time as there are workers; a `Cluster` must be connected.

    Args:
        storage: absolute directory for Tune's own files.
        tell: called now and then, as trials go on.
        keep: as in `train`.
    """
    import ray
    from ray import tune

    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    # Ours stops the run; Tune's would let it go on with whatever there is.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    # The other output prints a banner at any verbosity.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    by_id = {trial.genome.id: trial for trial in trials}

    class CandidateTrial(tune.Trainable):  # type: ignore[misc]
        """One candidate; its worker, which holds the model, serves the next one too."""

        def setup(self, config: dict[str, Any], worker_setup: WorkerSetup) -> None:
            self.worker = Worker(worker_setup)
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.trial: Trial = new_config["trial"]
            return True

        def step(self) -> dict[str, Any]:
            tokens = self.trial.tokens[self.iteration]
            found = climb(self.worker, self.trial, tokens, lambda: None)
            last = tokens == self.trial.tokens[-1] or "diverged" in found
            return {"score": min(score(found, self.trial), 1e30), "tokens": tokens, "done": last}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Ours is on disk already; Tune's remembers the iteration."""
            Path(checkpoint_dir, "iteration").write_text(str(self.iteration))

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing: `climb` goes on from what is on disk."""

    class Watch(tune.Callback):  # type: ignore[misc]
        """Tells of results as they come; Tune's own record of the experiment is made without it."""

        def __reduce__(self) -> tuple[type, tuple[()]]:
            return tune.Callback, ()

        last = 0.0

        def on_step_begin(self, iteration: int, trials: Any, **_: Any) -> None:
            if time.monotonic() - self.last > LOOK:
                tell()
                self.last = time.monotonic()

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
            mine = by_id[trial.config["trial"].genome.id]
            found = mine.result(result["tokens"])
            if found is not None:
                ended(mine, result["tokens"], found)

    config = setup.config.executor
    resources = {"cpu": config.threads, "gpu": config.gpus_per_worker}
    trainable = tune.with_resources(tune.with_parameters(CandidateTrial, worker_setup=setup), resources)
    scheduler = None
    if keep is not None:
        first, last = trials[0].tokens[0], trials[0].tokens[-1]
        scheduler = tune.schedulers.ASHAScheduler(
            time_attr="tokens", max_t=last, grace_period=first, reduction_factor=1 / keep
        )
    tuner = tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search(list(trials))},
        tune_config=tune.TuneConfig(
            metric="score", mode="min", scheduler=scheduler, max_concurrent_trials=config.workers, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="trials", storage_path=str(storage.resolve()), verbose=0, callbacks=[Watch()],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    )  # fmt: skip
    results = tuner.fit()
    interrupts.check()
    for error in results.errors:
        raise error
    assert ray.is_initialized()
