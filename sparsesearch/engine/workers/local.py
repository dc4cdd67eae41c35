"""One worker in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from sparsesearch.engine.workers.attempts import RETRIES, Attempts, result_of_death
from sparsesearch.engine.workers.setup import WorkerSetup
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.process_state import no_progress_bars, torch_threads
from sparsesearch.space import Genome

# In a run's directory, while a candidate is measured in the controller's process.
ATTEMPT = "attempt.json"

Tag = TypeVar("Tag")
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class LocalExecutor:
    """Runs calls one after another in this process, and restores its threads and progress bars after each.

    A call with `on_death` measures a candidate, whose genome is its first argument: if the process died more than
    `RETRIES` times while it measured the candidate, the call is not made again.
    """

    def __init__(self, setup: WorkerSetup, worker: type = Worker) -> None:
        self._setup, self._worker_class = setup, worker
        self._attempts = Attempts(Path(setup.run) / ATTEMPT)

    @cached_property
    def _worker(self) -> Any:
        return self._worker_class(self._setup)

    def map(
        self,
        method: Callable[[Any, *Arguments], Result],
        calls: Sequence[tuple[*Arguments]],
        lanes: int | None = None,
        on_death: Callable[[str], Result] | None = None,
    ) -> Iterator[Result]:
        for call in calls:
            yield self._call(method, call, on_death)

    def run(self, method: Callable[[Any, *Arguments], Result], *call: *Arguments) -> Result:
        return self._call(method, call)

    def stream(
        self,
        method: Callable[[Any, *Arguments], Result],
        source: Callable[[], tuple[Tag, tuple[*Arguments]] | None],
        on_death: Callable[[str], Result] | None = None,
    ) -> Iterator[tuple[Tag, Result]]:
        while (request := source()) is not None:
            tag, call = request
            yield tag, self._call(method, call, on_death)

    def _call(
        self, method: Callable[..., Result], call: tuple[Any, ...], on_death: Callable[[str], Result] | None = None
    ) -> Result:
        with torch_threads(self._setup.config.executor.threads), no_progress_bars():
            if on_death is None:
                return method(self._worker, *call)
            candidate = Genome(call[0]).id
            deaths = self._attempts.deaths(candidate)
            if deaths > RETRIES:
                return result_of_death(f"the process died {deaths} times while it measured this candidate", on_death)
            with self._attempts.measuring(candidate):
                return method(self._worker, *call)

    def each(self, method: Callable[[Any], Result]) -> list[Result]:
        return [self._call(method, ())]

    def release(self) -> None:
        """Do nothing: the worker's memory belongs to this process."""

    def close(self) -> None:
        """Do nothing: nothing outlives the process."""
