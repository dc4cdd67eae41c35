"""Conformance of executors: calls reach workers, and results come back as the engine expects them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparsesearch.engine.workers.executor import Executor


class ProbeError(Exception):
    """An error that a probe raises on request."""


class ProbeWorker:
    """A worker that counts its calls; an executor makes it from a setup, as it does `Worker`."""

    def __init__(self, setup: Any) -> None:
        self.calls = 0

    def double(self, number: int) -> int:
        self.calls += 1
        return 2 * number

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def fail(self, text: str) -> None:
        raise ProbeError(text)


def check_executor(make: Callable[[type], Executor]) -> None:
    """Check an executor.

    - `map` yields results in the order of the calls, and with one lane uses a single worker.
    - `stream` yields each result once, with its tag.
    - An exception inside a worker is raised, and later calls still work.
    - `each` calls every worker.
    - Workers start again after `release`.

    Args:
        make: returns a fresh executor whose workers are instances of a class such as `ProbeWorker`.

    Raises AssertionError.
    """
    executor = make(ProbeWorker)
    try:
        _check_map(executor)
        _check_one_lane(executor)
        _check_stream(executor)
        _check_errors(executor)
        _check_each(executor)
        executor.release()
        _check_map(executor)
    finally:
        executor.close()


def _check_map(executor: Executor) -> None:
    assert list(executor.map(ProbeWorker.double, [])) == [], "no calls have no results"
    results = list(executor.map(ProbeWorker.double, [(number,) for number in range(20)]))
    assert results == [2 * number for number in range(20)], f"results come in the order of the calls, got {results}"


def _check_one_lane(executor: Executor) -> None:
    counts = list(executor.map(ProbeWorker.count, [()] * 5, lanes=1))
    assert counts == list(range(counts[0], counts[0] + 5)), f"one lane is one worker, whose calls are {counts}"


def _check_stream(executor: Executor) -> None:
    waiting = [(f"call {number}", (number,)) for number in range(20)]
    results = list(executor.stream(ProbeWorker.double, lambda: waiting.pop() if waiting else None))
    expected = {f"call {number}": 2 * number for number in range(20)}
    assert len(results) == 20 and dict(results) == expected, f"each call has its result, once, got {results}"
    assert list(executor.stream(ProbeWorker.double, lambda: None)) == [], "without calls nothing runs"


def _check_errors(executor: Executor) -> None:
    try:
        list(executor.map(ProbeWorker.fail, [("by hand",)]))
    except ProbeError as error:
        assert str(error) == "by hand", f"the worker's exception is raised as it is, got {error}"
    else:
        raise AssertionError("an exception inside a worker is raised")
    assert list(executor.map(ProbeWorker.double, [(3,)])) == [6], "workers go on after an exception"


def _check_each(executor: Executor) -> None:
    counts = executor.each(ProbeWorker.count)
    assert counts and all(isinstance(count, int) and count > 0 for count in counts), f"every worker answers: {counts}"
