"""The job that carries a run through its phases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.workers.cluster import Cluster
from sparsesearch.engine.workers.executor import Executor, create_executor
from sparsesearch.engine.workers.setup import WorkerSetup, worker_setup
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.space import Space


@dataclass(frozen=True)
class Job:
    """A run that is being worked on: its recipe, directory, workers and records.

    Attributes:
        space: space of the launch, with measured nonzeros as soon as there is a level store.
        executor: runs calls on workers, which start with the first call.
    """

    launch: Launch
    run: RunDirectory
    space: Space
    executor: Executor
    reporter: Reporter
    ledger: Ledger
    setup: WorkerSetup

    def with_space(self, space: Space) -> Job:
        """Return the job with another space."""
        return replace(self, space=space)


@contextmanager
def open_job(
    launch: Launch,
    run: RunDirectory,
    reporter: Reporter,
    write: Callable[[], None] | None = None,
    must_be_new: bool = False,
    resume_command: str = "",
    keep_progress: bool = True,
) -> Iterator[Job]:
    """Connect the cluster, hold the run's lock and keep its progress file while the block runs.

    Args:
        run: the run; its directory is made if it does not exist.
        write: called under the lock; writes the files of the run that the phases read.
        must_be_new: refuse a directory that holds a run.
        resume_command: shown after Ctrl-C; `sparsesearch resume RUN` if empty.
        keep_progress: keep the progress file, which `sparsesearch status` reads.

    Raises InputError SS303 if there is a run already; EnvironmentProblem SS300 or SS301 before the directory is made,
    SS302 or SS304 if it cannot be used.
    """
    if must_be_new:
        RunDirectory.check_new(run.path)
    with Cluster(launch.config.executor):
        run.make()
        with run.locked(), contextlib.ExitStack() as stack:
            if must_be_new:  # another run of this name may have started and ended since
                RunDirectory.check_new(run.path)
            if keep_progress:
                stack.enter_context(reporter.writing_to(run.progress))
            if write is not None:
                write()
            # Candidates train on calibration data unless the recipe has training data.
            training = "calibration"
            if "training" in launch.samples:
                training = run.keep("training", launch.samples["training"])
            setup = worker_setup(launch, run, training)
            executor = create_executor(setup)
            try:
                yield Job(launch, run, launch.space, executor, reporter, Ledger(run), setup)
            except KeyboardInterrupt:
                reporter.end("done, stopped")
                command = resume_command or f"'sparsesearch resume {run.path}'"
                reporter.message(f"Stopped. All measurements are saved; continue with {command}.")
                raise
            finally:
                reporter.end()
                executor.close()
