"""The device and the data type that networks compute in."""

from __future__ import annotations

import torch

from sparsesearch.config import ExecutorConfig, RunConfig
from sparsesearch.devices import accelerator, has_bfloat16


def worker_device(executor: ExecutorConfig) -> str:
    """Return the type of device that workers compute on: `cpu`, or this machine's accelerator.

    A machine without one may control workers that have one; it is then taken for `cuda`.
    """
    return (accelerator() or "cuda") if executor.gpus_per_worker > 0 else "cpu"


def compute_dtype(config: RunConfig, storage: torch.dtype) -> torch.dtype:
    """Return the data type of the arithmetic that `model.compute_dtype` names.

    Args:
        storage: data type of the weights in the model's files.
    """
    name, device = config.model.compute_dtype, worker_device(config.executor)
    if name == "fast":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    return torch.float32 if device == "cpu" else storage
