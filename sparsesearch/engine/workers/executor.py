"""Executors run calls to workers in this process (`local`) or in Ray actors (`ray`), with the same results in order.

Calls are method references, as `executor.map(Worker.build, [(block,) for block in blocks])`; Ray is sent the name of
the method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, TypeVarTuple

from sparsesearch.engine.workers.local import LocalExecutor
from sparsesearch.engine.workers.ray_actors import RayExecutor
from sparsesearch.engine.workers.setup import WorkerSetup
from sparsesearch.engine.workers.worker import Worker

Tag = TypeVar("Tag")
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class Executor(Protocol):
    """Runs methods of a worker class on one or several workers."""

    def map(
        self,
        method: Callable[[Any, *Arguments], Result],
        calls: Sequence[tuple[*Arguments]],
        lanes: int | None = None,
        on_death: Callable[[str], Result] | None = None,
    ) -> Iterator[Result]:
        """Yield the results of calls in their order, as they become available.

        Args:
            lanes: use at most this many workers; 1 sends every call to the same one.
            on_death: makes the result of a call whose workers keep dying, from the reason.

        Raises an exception of a worker; SparseSearchError SS400 if workers keep dying and there is no `on_death`.
        """
        ...

    def run(self, method: Callable[[Any, *Arguments], Result], *call: *Arguments) -> Result:
        """Return the result of one call; raises as `map` does."""
        ...

    def stream(
        self,
        method: Callable[[Any, *Arguments], Result],
        source: Callable[[], tuple[Tag, tuple[*Arguments]] | None],
        on_death: Callable[[str], Result] | None = None,
    ) -> Iterator[tuple[Tag, Result]]:
        """Yield (tag, result) of calls as they end, whichever is first; a free worker gets the next call at once.

        Args:
            source: returns the next (tag, call), or None if there is none at the moment; the stream ends when it
                returns None while no call runs.
        """
        ...

    def each(self, method: Callable[[Any], Result]) -> list[Result]:
        """Return the results of a method on every living worker."""
        ...

    def release(self) -> None:
        """Free the resources of workers until the next call."""

    def close(self) -> None:
        """End the workers."""


def create_executor(setup: WorkerSetup, worker: type = Worker) -> Executor:
    """Return the executor that a configuration names; workers start with the first call.

    Args:
        worker: class with the methods to call; instances are made from the setup.
    """
    executor = RayExecutor if setup.config.executor.kind == "ray" else LocalExecutor
    return executor(setup, worker)
