"""The data type that networks compute in."""

from __future__ import annotations

from pathlib import Path

import torch

from sparsesearch.config import RunConfig


def compute_dtype(config: RunConfig, storage: torch.dtype) -> torch.dtype:
    """Return the data type of the arithmetic that `model.compute_dtype` names.

    Args:
        storage: data type of the weights in the model's files.
    """
    name, device = config.model.compute_dtype, config.executor.device
    if name == "fast":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    return torch.float32 if device == "cpu" else storage


def has_bfloat16(device: str) -> bool:
    """Return whether the processor multiplies bfloat16 matrices natively; False on CPUs of systems other than Linux."""
    if device != "cpu":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))
