"""The process of a worker on Ray: its memory, threads and log."""

from __future__ import annotations

import ctypes
import resource
import sys
from contextlib import suppress

import torch
from transformers.utils import logging

from sparsesearch import logs
from sparsesearch.engine.workers.setup import WorkerSetup


def set_up_process(setup: WorkerSetup) -> None:
    """Set up threads, memory and log of a worker's own process; does nothing for the local executor."""
    if setup.config.executor.kind != "ray":
        return
    torch.set_num_threads(setup.config.executor.threads)
    logging.disable_progress_bar()
    keep_freed_memory()
    # For imports inside functions of the user's own network.
    sys.path += [path for path in getattr(setup.source, "paths", ()) if path not in sys.path]
    if setup.log_level:
        logs.show(setup.log_level)


def peak_bytes() -> int:
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next candidate; returning it and faulting it in again takes 10 % longer."""
    trim_threshold, map_threshold = -1, -3  # constants of malloc.h; the second allows at most 32 MiB
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(map_threshold, 2**25)
