"""The accelerator of this machine, of whatever kind torch knows: CUDA (also ROCm), XPU, MPS or another."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def accelerator() -> str | None:
    """Return the type of this machine's accelerator, such as `cuda`; None if it has none."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if device is None else device.type


def accelerators() -> list[str]:
    """Return the names of this machine's accelerators, such as `cuda:0`."""
    kind = accelerator()
    return [] if kind is None else [f"{kind}:{index}" for index in range(torch.accelerator.device_count())]


def is_accelerator(device: str) -> bool:
    """Return whether a device is not the CPU."""
    return torch.device(device).type != "cpu"


def device_name(device: str) -> str:
    """Return the model of an accelerator, or its own name if torch does not know the model."""
    name = getattr(_module(device), "get_device_name", None)
    return device if name is None else str(name(device))


def synchronize(device: str) -> None:
    """Wait until the work of an accelerator is done; does nothing for the CPU."""
    if is_accelerator(device):
        torch.accelerator.synchronize(device)


def allocated_peak(call: Callable[[], object], device: str) -> int:
    """Return the peak of bytes that a call allocates on an accelerator, without those allocated before."""
    module = _module(device)
    synchronize(device)
    module.reset_peak_memory_stats(device)
    before = int(module.memory_allocated(device))
    call()
    return int(module.max_memory_allocated(device)) - before


def has_bfloat16(device: str) -> bool:
    """Return whether a processor multiplies bfloat16 matrices natively; False if it is not known."""
    if is_accelerator(device):
        supported = getattr(_module(device), "is_bf16_supported", None)
        return accelerator() is not None and supported is not None and bool(supported())
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:  # not Linux
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def free_bytes(device: str) -> float:
    """Return the free memory of a device; infinite if it is not known."""
    if is_accelerator(device):
        info = getattr(_module(device), "mem_get_info", None)
        return math.inf if info is None or accelerator() is None else float(info()[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), math.inf)


def _module(device: str) -> Any:
    """Return torch's module for a device's type, such as `torch.cuda`."""
    return torch.get_device_module(torch.device(device).type)
