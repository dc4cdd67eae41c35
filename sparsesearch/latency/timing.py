"""Timing of what runs on a device, and the memory that it takes."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

Run = Callable[[], Any]
# A sample is at least this long, so that clocks and launches do not matter.
SAMPLE_NS = 1_000_000
WARM_UPS = 2
ROUNDS = 15
# Bytes of networks that are held at once beside dense, and how many at most.
COPY_BYTES, COPIES = 2**30, 8


@contextmanager
def quiet(threads: int) -> Iterator[None]:
    """Inference on a number of CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def nanoseconds(run: Run, device: str, repeats: int = 1) -> float:
    """Of one run, on average over some in a row.

    On one CPU thread, the time that the processor spent on it: what it takes where nothing else wants that processor.
    """
    wait = torch.cuda.synchronize if device.startswith("cuda") else None
    alone = wait is None and torch.get_num_threads() == 1
    clock = time.thread_time_ns if alone else time.perf_counter_ns
    if wait:
        wait(device)
    start = clock()
    for _ in range(repeats):
        run()
    if wait:
        wait(device)
    return (clock() - start) / repeats


def interleaved(runs: Sequence[Run], device: str) -> list[int]:
    """Nanoseconds of each run, with the first as reference.

    Every round runs all of them in turn. What is taken is the median over rounds of the ratio to the reference of the
    same round, times the reference's median: what slows a machine down for a while slows both.
    """
    repeats = []
    for run in runs:
        for _ in range(WARM_UPS):
            run()
        repeats.append(max(1, math.ceil(SAMPLE_NS / max(nanoseconds(run, device), 1.0))))
    rng = np.random.default_rng(0)
    times = np.zeros((ROUNDS, len(runs)))
    for row in times:
        for i in rng.permutation(len(runs)):
            row[i] = nanoseconds(runs[i], device, repeats[i])
    reference = np.median(times[:, 0])
    return [round(float(reference * np.median(times[:, i] / times[:, 0]))) for i in range(len(runs))]


def compared(dense: Run, makers: Sequence[Callable[[], Run]], device: str, size: int) -> list[int]:
    """Nanoseconds of dense and of others, interleaved with it some at a time; as if dense had always been as fast.

    Args:
        makers: make the others when their turn comes.
        size: bytes that each of them holds.
    """
    at_once = max(1, min(COPIES, COPY_BYTES // max(size, 1)))
    found: list[int] = []
    for start in range(0, max(len(makers), 1), at_once):
        reference, *others = interleaved([dense, *(make() for make in makers[start : start + at_once])], device)
        found = found or [reference]
        found += [round(ns * found[0] / reference) for ns in others]
    return found


def peak_bytes(run: Run, device: str) -> int:
    """Bytes of tensors that a run makes and holds at most, beside those that were there before."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = int(torch.cuda.memory_allocated(device))
        run()
        return int(torch.cuda.max_memory_allocated(device)) - before
    with _Held() as held:
        run()
    peak: int = held.peak
    return peak


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of live tensors that operations make on a CPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = function(*args, **(kwargs or {}))
        given = {id(t.untyped_storage()) for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_iter(outputs):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage(), given)
        return outputs

    def _add(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key = id(storage)
        if key in given or key in self._known:  # a view, or written in place
            return
        self._known.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
