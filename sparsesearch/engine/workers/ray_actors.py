"""Workers in Ray actors. Ray is imported with the first call, since the local executor runs without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple

from sparsesearch.engine.workers.attempts import RETRIES, result_of_death
from sparsesearch.engine.workers.setup import WorkerSetup
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import first_line, problem
from sparsesearch.logs import logger
from sparsesearch.runs import interrupts

# Seconds between two checks for Ctrl-C while waiting.
WAKE_SECONDS = 1.0

Tag = TypeVar("Tag")
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


@dataclass
class RunningCall:
    """A call, the actor that runs it, and the number of workers that died on it."""

    tag: Any
    call: tuple[Any, ...]
    actor: int = -1
    deaths: int = 0


class RayExecutor:
    """Ray actors that hold a worker each; a `Cluster` must be connected before the first call."""

    def __init__(self, setup: WorkerSetup, worker: type = Worker) -> None:
        self._setup, self._worker_class = setup, worker
        self._actors: list[Any] = []
        self._actor_class: Any = None

    def map(
        self,
        method: Callable[[Any, *Arguments], Result],
        calls: Sequence[tuple[*Arguments]],
        lanes: int | None = None,
        on_death: Callable[[str], Result] | None = None,
    ) -> Iterator[Result]:
        waiting = iter(enumerate(calls))
        ended = self._stream(method, lambda: next(waiting, None), lanes, on_death)
        results: dict[int, Result] = {}
        for number in range(len(calls)):
            while number not in results:
                tag, result = next(ended)
                results[tag] = result
            yield results.pop(number)

    def run(self, method: Callable[[Any, *Arguments], Result], *call: *Arguments) -> Result:
        (result,) = self.map(method, [call])
        return result

    def stream(
        self,
        method: Callable[[Any, *Arguments], Result],
        source: Callable[[], tuple[Tag, tuple[*Arguments]] | None],
        on_death: Callable[[str], Result] | None = None,
    ) -> Iterator[tuple[Tag, Result]]:
        return self._stream(method, source, None, on_death)

    def _stream(
        self,
        method: Callable[..., Result],
        source: Callable[[], tuple[Tag, tuple[Any, ...]] | None],
        lanes: int | None,
        on_death: Callable[[str], Result] | None,
    ) -> Iterator[tuple[Tag, Result]]:
        import ray

        self._ensure_actors()
        free = list(range(len(self._actors)))[:lanes]
        running: dict[Any, RunningCall] = {}
        retries: list[RunningCall] = []
        while True:
            interrupts.check()
            while free and (work := retries.pop() if retries else _next_call(source)):
                work.actor = free.pop(0)
                running[getattr(self._actors[work.actor], method.__name__).remote(*work.call)] = work
            if not running:
                return
            ended, _ = ray.wait(list(running), num_returns=1, timeout=WAKE_SECONDS)
            if not ended:
                continue
            work = running.pop(ended[0])
            free.append(work.actor)
            try:
                yield work.tag, ray.get(ended[0])
            except ray.exceptions.RayActorError as error:
                self._replace(work.actor)
                work.deaths += 1
                logger.info("a worker died on %s: %s", method.__name__, first_line(error))
                if work.deaths <= RETRIES:
                    retries.append(work)
                    continue
                reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
                text = f"worker died {work.deaths} times on {method.__name__}: {reason}"
                yield work.tag, result_of_death(text, on_death)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                text = f"the Ray cluster is gone: {first_line(error)}."
                raise problem("SS300", text, fix="Resume the run.") from None

    def _replace(self, actor: int) -> None:
        import ray

        ray.kill(self._actors[actor])
        self._actors[actor] = self._actor_class.remote(self._setup)

    def each(self, method: Callable[[Any], Result]) -> list[Result]:
        import ray

        self._ensure_actors()
        results: list[Result] = []
        for reference in [getattr(actor, method.__name__).remote() for actor in self._actors]:
            with suppress(ray.exceptions.RayActorError):
                results.append(ray.get(reference))
        return results

    def release(self) -> None:
        """End the actors to free their resources; new ones start with the next call."""
        self.close()

    def _ensure_actors(self) -> None:
        if self._actors:
            return
        import ray

        config = self._setup.config.executor
        remote = ray.remote(self._worker_class)
        self._actor_class = remote.options(num_cpus=config.threads, num_gpus=config.gpus_per_worker)
        self._actors = [self._actor_class.remote(self._setup) for _ in range(config.workers)]

    def close(self) -> None:
        if not self._actors:
            return
        import ray

        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


def _next_call(source: Callable[[], tuple[Any, tuple[Any, ...]] | None]) -> RunningCall | None:
    request = source()
    return None if request is None else RunningCall(*request)
