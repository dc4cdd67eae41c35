"""The Ray cluster that workers run on: joined, or started for a run."""

from __future__ import annotations

import os
import socket

from sparsesearch import logs
from sparsesearch.config import ExecutorConfig
from sparsesearch.devices import accelerator, accelerators
from sparsesearch.errors import EnvironmentProblem, first_line, problem
from sparsesearch.process_state import environment
from sparsesearch.runs import interrupts

# Environment of Ray when it starts; the second lets workers see accelerators even if they request none.
RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class Cluster:
    """The connection to Ray for one run; does nothing if workers run in this process."""

    def __init__(self, config: ExecutorConfig) -> None:
        """Connect, or start a cluster, and check that it can hold the workers.

        Raises EnvironmentProblem SS300 (cannot join) or SS301 (too few CPUs or GPUs), before anything runs.
        """
        self._started_here = False
        if config.kind == "local":
            _check_local_gpu(config.gpus_per_worker)
            return
        import ray

        if not ray.is_initialized():
            if config.address is None:
                check_machine(config)
            _init_ray(config.address)
            self._started_here = config.address is None
        try:
            _check_cluster(config, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        except EnvironmentProblem:
            self.close()
            raise

    def close(self) -> None:
        """End the cluster if it was started here."""
        if self._started_here:
            import ray

            ray.shutdown()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_machine(config: ExecutorConfig) -> None:
    """Raise EnvironmentProblem SS301 if a cluster of this machine alone could not hold the workers."""
    if config.kind == "ray" and config.address is None:
        _check_cluster(config, [{"CPU": float(os.cpu_count() or 1), "GPU": float(len(accelerators()))}])


def idle_gpu(config: ExecutorConfig) -> str:
    """Return a hint if this machine has a GPU that no worker uses, else an empty text."""

    if config.gpus_per_worker or config.address is not None or accelerator() is None:
        return ""
    return (
        "This machine has a GPU, and workers run on the CPU. To use it, set executor.gpus_per_worker: 1 "
        "(--set executor.gpus_per_worker=1)."
    )


def _init_ray(address: str | None) -> None:
    import ray

    local = {"include_dashboard": False} if address is None else {}
    try:
        _check_reachable(address)
        with interrupts.deferred(), environment(RAY_SETTINGS):
            ray.init(address=address or "local", log_to_driver=logs.is_verbose(), logging_level="ERROR", **local)
            interrupts.reinstall()
    except (OSError, RuntimeError, ValueError) as error:
        # Ray reads its token by itself only if no address is given.
        token_hint = "" if "RAY_AUTH_MODE" in os.environ else "; if it asks for a token, set RAY_AUTH_MODE=token"
        raise problem(
            "SS300",
            f"cannot join the Ray cluster at {address!r}: {first_line(error)}.",
            fix=f"Check executor.address (--address), or leave it out{token_hint}.",
        ) from None


def _check_reachable(address: str | None) -> None:
    """Raise OSError if nothing listens at HOST:PORT; Ray itself would end the whole process."""
    host, _, port = (address or "").rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def _check_cluster(config: ExecutorConfig, nodes: list[dict[str, float]]) -> None:
    """Raise EnvironmentProblem SS301 if nodes with these resources cannot hold the workers."""

    def capacity(node: dict[str, float]) -> int:
        """Return the number of workers that one node can hold."""
        by_cpu = node.get("CPU", 0) // config.threads
        gpus = config.gpus_per_worker
        return int(min(by_cpu, node.get("GPU", 0) // gpus) if gpus else by_cpu)

    if sum(map(capacity, nodes)) < config.workers:
        cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
        raise problem(
            "SS301",
            f"{config.workers} workers need {config.threads} CPUs and {config.gpus_per_worker:g} GPUs each; the "
            f"cluster has {cpus:g} CPUs and {gpus:g} GPUs on {len(nodes)} nodes. Nothing was started.",
            fix="Use fewer workers (--workers), executor.kind: local (--executor local), or a larger cluster.",
        )


def _check_local_gpu(gpus: float) -> None:
    if gpus > 0 and accelerator() is None:
        raise problem("SS301", f"the worker needs {gpus:g} GPU; torch finds none. Nothing was started.")
