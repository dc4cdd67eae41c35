"""Where workers run: in this process (`local`) or as Ray actors (`ray`). Both give the same results, in order."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sparsesearch.config import ExecutorConfig
from sparsesearch.engine.workers.attempts import Attempts
from sparsesearch.engine.workers.worker import Worker, WorkerSetup
from sparsesearch.errors import EnvironmentProblem, first_line, problem
from sparsesearch.runs import interrupts
from sparsesearch.space import Genome

# Seconds after which a wait looks up, to see whether the user wants to stop.
WAKE = 1.0
# Times a call is given to a fresh worker after its worker died.
RETRIES = 2
# In a run's directory, while a candidate is measured in the controller's process.
ATTEMPT = "attempt.json"


Source = Callable[[], tuple[Any, tuple[Any, ...]] | None]


class WorkerDied(Exception):
    """A call whose worker died, again and again."""


class Executor(Protocol):
    """Runs methods of `Worker`, or of another class, by name."""

    def map(self, method: str, calls: Sequence[tuple[Any, ...]], lanes: int | None = None) -> Iterator[Any]:
        """Results of `Worker.method(*call)` in the order of the calls, as they become available.

        A call whose workers keep dying yields a WorkerDied; an exception inside a worker is raised.

        Args:
            lanes: use at most this many workers; 1 sends every call to the same one.
        """
        ...

    def stream(self, method: str, source: Source, lanes: int | None = None) -> Iterator[tuple[Any, Any]]:
        """(tag, result) of calls as they end, whichever is first; a worker that is free gets the next call at once.

        Args:
            source: gives the next (tag, call), or None while there is none; the stream ends when there is none and
                nothing runs.
        """
        ...

    def each(self, method: str) -> list[Any]:
        """The result of `Worker.method()` of every worker that is alive."""
        ...

    def release(self) -> None:
        """Give back what workers hold, for as long as there is no work for them."""

    def close(self) -> None: ...


class LocalExecutor:
    """One worker in this process."""

    def __init__(self, setup: WorkerSetup, worker: type = Worker) -> None:
        self._worker = worker(setup)
        self._attempts = Attempts(Path(setup.run) / ATTEMPT)

    def map(self, method: str, calls: Sequence[tuple[Any, ...]], lanes: int | None = None) -> Iterator[Any]:
        for call in calls:
            yield self._call(method, call)

    def stream(self, method: str, source: Source, lanes: int | None = None) -> Iterator[tuple[Any, Any]]:
        while (wanted := source()) is not None:
            tag, call = wanted
            yield tag, self._call(method, call)

    def _call(self, method: str, call: tuple[Any, ...]) -> Any:
        if method != "evaluate":
            return getattr(self._worker, method)(*call)
        candidate = Genome(call[0]).id
        deaths = self._attempts.deaths(candidate)
        if deaths > RETRIES:
            return WorkerDied(f"the process died {deaths} times while it measured this candidate")
        with self._attempts.measuring(candidate):
            return self._worker.evaluate(*call)

    def each(self, method: str) -> list[Any]:
        return [getattr(self._worker, method)()]

    def release(self) -> None:
        """Nothing: memory is the process's."""

    def close(self) -> None:
        """Nothing outlives the process."""


@dataclass
class Running:
    """A call, the actor that runs it, and how many workers died of it."""

    tag: Any
    call: tuple[Any, ...]
    actor: int = -1
    failures: int = 0


def _running(wanted: tuple[Any, tuple[Any, ...]] | None) -> Running | None:
    return None if wanted is None else Running(*wanted)


class RayExecutor:
    """Ray actors, each holding one worker; a `Cluster` must be connected."""

    def __init__(self, setup: WorkerSetup, worker: type = Worker) -> None:
        import ray

        config = setup.config.executor
        self._ray, self._setup = ray, setup
        self._actor_class = ray.remote(worker).options(num_cpus=config.threads, num_gpus=config.gpus_per_worker)
        self._actors: list[Any] = []
        self._ensure_actors()

    def map(self, method: str, calls: Sequence[tuple[Any, ...]], lanes: int | None = None) -> Iterator[Any]:
        waiting = iter(enumerate(calls))
        ended = self.stream(method, lambda: next(waiting, None), lanes)
        results: dict[int, Any] = {}
        for wanted in range(len(calls)):
            while wanted not in results:
                tag, result = next(ended)
                results[tag] = result
            yield results.pop(wanted)

    def stream(self, method: str, source: Source, lanes: int | None = None) -> Iterator[tuple[Any, Any]]:
        self._ensure_actors()
        free = list(range(len(self._actors)))[:lanes]
        running: dict[Any, Running] = {}
        again: list[Running] = []
        while True:
            interrupts.check()
            while free and (work := again.pop() if again else _running(source())):
                work.actor = free.pop(0)
                running[getattr(self._actors[work.actor], method).remote(*work.call)] = work
            if not running:
                return
            ended, _ = self._ray.wait(list(running), num_returns=1, timeout=WAKE)
            if not ended:
                continue
            work = running.pop(ended[0])
            free.append(work.actor)
            try:
                yield work.tag, self._ray.get(ended[0])
            except self._ray.exceptions.RayActorError as error:
                self._replace(work.actor)
                work.failures += 1
                if work.failures <= RETRIES:
                    again.append(work)
                    continue
                reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
                yield work.tag, WorkerDied(f"worker died {work.failures} times on {method}: {reason}")
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                raise problem(
                    "SS300", f"the Ray cluster is gone: {first_line(error)}.", fix="Resume the run to go on."
                ) from None

    def _replace(self, actor: int) -> None:
        self._ray.kill(self._actors[actor])
        self._actors[actor] = self._actor_class.remote(self._setup)

    def each(self, method: str) -> list[Any]:
        found = []
        for reference in [getattr(actor, method).remote() for actor in self._actors]:
            with suppress(self._ray.exceptions.RayActorError):
                found.append(self._ray.get(reference))
        return found

    def release(self) -> None:
        """End the actors, so that others can have what they hold; new ones start when there is work."""
        self.close()
        self._actors = []

    def _ensure_actors(self) -> None:
        if not self._actors:
            count = self._setup.config.executor.workers
            self._actors = [self._actor_class.remote(self._setup) for _ in range(count)]

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            self._ray.kill(actor)


class Cluster:
    """The connection to Ray for one run; nothing where workers run in this process."""

    def __init__(self, config: ExecutorConfig) -> None:
        """Connect, or start a cluster, and check that it can hold the workers.

        Raises EnvironmentProblem SS300 (cannot join) or SS301 (asks for more than there is), before anything runs.
        """
        self._own = False
        if config.kind == "local":
            _check_local_gpu(config.gpus_per_worker)
            return
        import ray

        if not ray.is_initialized():
            if config.address is None:
                check_machine(config)
            _init_ray(config.address)
            self._own = config.address is None
        try:
            _check_cluster(config, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        except EnvironmentProblem:
            self.close()
            raise

    def close(self) -> None:
        """End the cluster if it was started here."""
        if self._own:
            import ray

            ray.shutdown()


def check_machine(config: ExecutorConfig) -> None:
    """Raise EnvironmentProblem SS301 where a cluster of this machine alone could not hold the workers."""
    if config.kind == "ray" and config.address is None:
        import torch

        _check_cluster(config, [{"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}])


def idle_gpu(config: ExecutorConfig) -> str:
    """What to say where this machine has a GPU that no worker uses; else nothing."""
    import torch

    if config.gpus_per_worker or config.address is not None or not torch.cuda.is_available():
        return ""
    return (
        "This machine has a GPU, and workers run on the CPU: --set executor.gpus_per_worker=1 (and --workers) uses it."
    )


def _init_ray(address: str | None) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Workers see the machine's accelerators as they are, also where they ask for none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own = {"include_dashboard": False} if address is None else {}
    try:
        _check_reachable(address)
        with interrupts.deferred():
            ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **own)
            interrupts.restore()
    except (OSError, RuntimeError, ValueError) as error:
        # Ray takes up its token by itself only where no address is given.
        tokens = "" if "RAY_AUTH_MODE" in os.environ else "; if it asks for a token, set RAY_AUTH_MODE=token"
        raise problem(
            "SS300",
            f"cannot join the Ray cluster at {address!r}: {first_line(error)}.",
            fix=f"Check --address, or leave it out{tokens}.",
        ) from None


def _check_reachable(address: str | None) -> None:
    """Raise OSError where nothing listens at HOST:PORT; Ray itself would end the whole process."""
    host, _, port = (address or "").rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def _check_cluster(config: ExecutorConfig, nodes: list[dict[str, float]]) -> None:
    def room(node: dict[str, float]) -> int:
        """Workers that one node can hold."""
        by_cpu = node.get("CPU", 0) // config.threads
        gpus = config.gpus_per_worker
        return int(min(by_cpu, node.get("GPU", 0) // gpus) if gpus else by_cpu)

    if sum(map(room, nodes)) < config.workers:
        cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
        raise problem(
            "SS301",
            f"{config.workers} workers ask {config.threads} CPUs and {config.gpus_per_worker:g} GPUs each; the cluster "
            f"has {cpus:g} CPUs and {gpus:g} GPUs on {len(nodes)} nodes. Nothing was started.",
            fix="Use fewer --workers, --executor local, or a larger cluster.",
        )


def _check_local_gpu(gpus: float) -> None:
    import torch

    if gpus > 0 and not torch.cuda.is_available():
        raise problem("SS301", f"the worker asks {gpus:g} GPU; torch sees none. Nothing was started.")


def create(setup: WorkerSetup, worker: type = Worker) -> Executor:
    """The executor that a configuration names.

    Args:
        worker: class whose methods it runs; made from the setup.
    """
    executor = RayExecutor if setup.config.executor.kind == "ray" else LocalExecutor
    return executor(setup, worker)


def alive(results: Iterator[Any]) -> Iterator[Any]:
    """Results of work that must not fail; raises SparseSearchError SS400 where a worker kept dying."""
    for result in results:
        if isinstance(result, WorkerDied):
            raise problem("SS400", f"{result}.", fix="Is there enough memory? Try fewer --workers.")
        yield result
