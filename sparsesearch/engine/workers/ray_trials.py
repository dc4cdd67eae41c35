"""Trials under Ray Tune, which schedules them, and with ASHA stops some early.

Ray is imported late, so the subclasses of Tune's classes are made inside functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparsesearch.engine.workers.call_results import DivergedTraining
from sparsesearch.engine.workers.setup import WorkerSetup
from sparsesearch.engine.workers.trial import TrainingCallback, Trial, climb, score
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.process_state import environment
from sparsesearch.runs import interrupts

# Times that a trial is restarted after its worker died.
RETRIES = 2
# Seconds between two readings of checkpoints that other processes write.
SECONDS_BETWEEN_READINGS = 2.0
# Environment of Tune; its new output prints a banner at any verbosity.
TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def train_on_ray(
    setup: WorkerSetup,
    trials: Sequence[Trial],
    storage: Path,
    ended: TrainingCallback,
    show_progress: Callable[[], None],
    keep: float | None = None,
) -> None:
    """Run trials under Ray Tune, as many at a time as there are workers; a `Cluster` must be connected.

    Args:
        storage: absolute directory for Tune's own files.
        show_progress: called at intervals while trials run.
        keep: as in `trials.train`.
    """
    import ray
    from ray import tune

    config = setup.config.executor
    resources = {"cpu": config.threads, "gpu": config.gpus_per_worker}
    trainable = tune.with_resources(tune.with_parameters(_trainable(), worker_setup=setup), resources)
    scheduler = None if keep is None else _halving(trials[0], keep)
    tuner = tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search(list(trials))},
        tune_config=tune.TuneConfig(
            metric="score", mode="min", scheduler=scheduler, max_concurrent_trials=config.workers, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage.resolve()),
            verbose=0,
            callbacks=[_watch(trials, ended, show_progress)],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    )
    # Our handler stops the run after Ctrl-C; Tune's would continue with the results so far.
    with environment(TUNE_SETTINGS, TUNE_DISABLE_SIGINT_HANDLER="1"):
        results = tuner.fit()
    interrupts.check()
    for error in results.errors:
        raise error
    assert ray.is_initialized()


def _trainable() -> type:
    """Return the class with which Tune trains a candidate, one step for each of its token counts."""
    from ray import tune

    class CandidateTrial(tune.Trainable):  # type: ignore[misc]
        """The training of one candidate; the worker, which holds the model, is reused for the next one."""

        def setup(self, config: dict[str, Any], worker_setup: WorkerSetup) -> None:
            self.worker = Worker(worker_setup)
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.trial: Trial = new_config["trial"]
            return True

        def step(self) -> dict[str, Any]:
            tokens = self.trial.tokens[self.iteration]
            result = climb(self.worker, self.trial, tokens, lambda: None)
            last = tokens == self.trial.tokens[-1] or isinstance(result, DivergedTraining)
            return {"score": min(score(result, self.trial), 1e30), "tokens": tokens, "done": last}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Write the iteration for Tune; the training's own checkpoint is on disk already."""
            Path(checkpoint_dir, "iteration").write_text(str(self.iteration))

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            """Do nothing: `climb` continues from the files on disk."""

    return CandidateTrial


def _halving(trial: Trial, keep: float) -> Any:
    """Return ASHA (Li et al., 2020): after each token count, which all trials share, a share `keep` continues."""
    from ray import tune

    return tune.schedulers.ASHAScheduler(
        time_attr="tokens", max_t=trial.tokens[-1], grace_period=trial.tokens[0], reduction_factor=1 / keep
    )


def _watch(trials: Sequence[Trial], ended: TrainingCallback, show_progress: Callable[[], None]) -> Any:
    """Return a callback for Tune that passes on results and progress."""
    from ray import tune

    by_id = {trial.genome.id: trial for trial in trials}

    class Watch(tune.Callback):  # type: ignore[misc]
        """Passes on results as they come; it is left out when Tune pickles the experiment."""

        def __reduce__(self) -> tuple[type, tuple[()]]:
            return tune.Callback, ()

        last = 0.0

        def on_step_begin(self, iteration: int, trials: Any, **_: Any) -> None:
            if time.monotonic() - self.last > SECONDS_BETWEEN_READINGS:
                show_progress()
                self.last = time.monotonic()

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
            own_trial = by_id[trial.config["trial"].genome.id]
            training = own_trial.result(result["tokens"])
            if training is not None:
                ended(own_trial, result["tokens"], training)

    return Watch()
