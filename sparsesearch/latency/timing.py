"""Timing of calls on a device, and the memory that they use."""

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

from sparsesearch.devices import allocated_peak, is_accelerator, synchronize

TimedCall = Callable[[], Any]
# Calls are repeated until a sample takes this long, so that clock resolution and launches do not matter.
SAMPLE_NS = 1_000_000
WARM_UPS = 2
ROUNDS = 15
# Limits on copies of the network that are in memory at once beside the dense one.
MAX_COPY_BYTES, MAX_COPIES = 2**30, 8


@contextmanager
def inference_threads(threads: int) -> Iterator[None]:
    """Run the block in inference mode on a number of CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def nanoseconds(call: TimedCall, device: str, repeats: int = 1) -> float:
    """Return the nanoseconds of one call, averaged over some in a row.

    On one CPU thread it is the thread's processor time, which other processes do not affect.
    """
    single_thread = not is_accelerator(device) and torch.get_num_threads() == 1
    clock = time.thread_time_ns if single_thread else time.perf_counter_ns
    synchronize(device)
    start = clock()
    for _ in range(repeats):
        call()
    synchronize(device)
    return (clock() - start) / repeats


def time_interleaved(calls: Sequence[TimedCall], device: str) -> list[int]:
    """Return the nanoseconds of each call, with the first as reference.

    Every round makes all calls in random order. The result is the median over rounds of the ratio to the reference of
    the same round, times the reference's median, since a temporary slowdown of the machine affects both.
    """
    repeats = []
    for call in calls:
        for _ in range(WARM_UPS):
            call()
        repeats.append(max(1, math.ceil(SAMPLE_NS / max(nanoseconds(call, device), 1.0))))
    rng = np.random.default_rng(0)
    times = np.zeros((ROUNDS, len(calls)))
    for row in times:
        for i in rng.permutation(len(calls)):
            row[i] = nanoseconds(calls[i], device, repeats[i])
    reference = np.median(times[:, 0])
    return [round(float(reference * np.median(times[:, i] / times[:, 0]))) for i in range(len(calls))]


def time_against(dense: TimedCall, makers: Sequence[Callable[[], TimedCall]], device: str, size: int) -> list[int]:
    """Return the nanoseconds of dense, then of other calls, scaled to the first measurement of dense.

    The others are timed some at a time, interleaved with dense.

    Args:
        makers: functions that make the other calls just before they are timed.
        size: bytes that each of these calls holds.
    """
    at_once = max(1, min(MAX_COPIES, MAX_COPY_BYTES // max(size, 1)))
    times: list[int] = []
    for start in range(0, max(len(makers), 1), at_once):
        reference, *others = time_interleaved([dense, *(make() for make in makers[start : start + at_once])], device)
        times = times or [reference]
        times += [round(ns * times[0] / reference) for ns in others]
    return times


def peak_bytes(call: TimedCall, device: str) -> int:
    """Return the peak of bytes of tensors that a call allocates, without those allocated before."""
    if is_accelerator(device):
        return allocated_peak(call, device)
    with _LiveBytes() as counter:
        call()
    peak: int = counter.peak
    return peak


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of live tensors that operations allocate on a CPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._counted: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = function(*args, **(kwargs or {}))
        inputs = {id(t.untyped_storage()) for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_iter(outputs):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), inputs)
        return outputs

    def _count(self, storage: torch.UntypedStorage, inputs: set[int]) -> None:
        key = id(storage)
        if key in inputs or key in self._counted:  # a view, or written in place
            return
        self._counted.add(key)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key, storage.nbytes())

    def _release(self, key: int, size: int) -> None:
        self._counted.discard(key)
        self.live -= size
