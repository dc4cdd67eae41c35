"""Texts of numbers and names of costs for tables, pages and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The cost in nanoseconds.
LATENCY = "latency_ns"
# Axis texts of qualities and costs; others are shown by their names.
AXIS_TEXTS = {
    "kl": "KL divergence to dense",
    "sparse_kl": "KL divergence to dense, its top outcomes",
    "error": "share classified wrongly",
    "cosine": "cosine distance to dense embeddings",
    "hidden": "distance to dense hidden states",
    "distance": "squared distance to dense outputs",
    "params": "parameters",
    "macs": "MACs",
    "kv_bytes": "KV-cache bytes",
    "memory_bytes": "peak bytes of a request",
    LATENCY: "latency, ms",
}


def axis_text(name: str) -> str:
    """Return the axis text of a quality or a cost."""
    return AXIS_TEXTS.get(name, name)


def request_text(setting: Mapping[str, Any]) -> str:
    """Return the timed request and the device in one line; `setting` as in latency tables."""
    tokens = f", {setting['prompt']} tokens read" if setting["prompt"] else ""
    tokens += f", {setting['generated']} generated" if setting["generated"] else ""
    threads = setting["threads"]
    cpu = f", {threads} thread{'s' if threads > 1 else ''}" if setting["device"] == "cpu" else ""
    return f"batch {setting['batch']}{tokens}, {setting['dtype']}{cpu}, on {setting['hardware']}"


def short_number(value: float) -> str:
    """Return a count with three significant digits and K, M or G."""
    value = float(f"{value:.3g}")  # rounded first, so that 999,600 is 1M, not 1000K
    for scale, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:g}"


def cost_text(name: str, value: float) -> str:
    """Return a cost as tables show it: counts shortened, times in milliseconds."""
    return f"{value / 1e6:.3g} ms" if name == LATENCY else short_number(value)


def cost_name(name: str) -> str:
    """Return the name of a cost that goes with `cost_text`, which has the unit."""
    return "latency" if name == LATENCY else name
