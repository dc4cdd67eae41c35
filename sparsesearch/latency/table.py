"""The latency table: a request, the device that answers it, and the measured time of each piece."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError

from sparsesearch.config import LatencyConfig
from sparsesearch.devices import accelerator, accelerators, device_name
from sparsesearch.errors import DamagedFile, SparseSearchError, problem
from sparsesearch.files import read_json, write_json
from sparsesearch.models.network import Network

DEFAULT_PROMPT_TOKENS = 128
# Nanoseconds, bytes or counts, bounded so that sums fit 64 bits.
Count = Annotated[int, Field(ge=0, le=10**15)]


@dataclass(frozen=True)
class Setting:
    """A request and the device that answers it.

    Attributes:
        device: torch's name of the device.
        hardware: the name of the processor or accelerator.
        batch: number of sequences or images.
        prompt: tokens read at once; 0 if samples are not token sequences.
        generated: tokens generated after the prompt, one at a time, with a KV cache.
        dtype: torch's name of the data type of weights and arithmetic.
        threads: number of CPU threads.
    """

    device: str
    hardware: str
    batch: Count
    prompt: Count
    generated: Count
    dtype: str
    threads: Count

    def __post_init__(self) -> None:
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(f"{self.dtype} is not a data type of torch")

    @property
    def bytes_per_value(self) -> int:
        """Size of the data type."""
        size: int = getattr(torch, self.dtype).itemsize
        return size

    @property
    def tokens(self) -> int:
        """Tokens of a sequence at the end of the request."""
        return self.prompt + self.generated


@dataclass(frozen=True)
class TimedPiece:
    """The measured time of one piece.

    Attributes:
        place: dotted path of the module that was timed.
        units: names of the units that narrow it.
        levels: levels of each of these units, as elements kept.
        drop: name of the unit that drops it, or None.
        ns: nanoseconds at each combination of levels, the last unit's running fastest, relative to the dropped piece,
            or to the fastest combination if it cannot be dropped.
    """

    place: str
    units: tuple[str, ...]
    levels: tuple[tuple[int, ...], ...]
    drop: str | None
    ns: tuple[Count, ...]

    def __post_init__(self) -> None:
        if len(self.units) != len(self.levels) or len(self.ns) != math.prod(map(len, self.levels)):
            raise ValueError("ns must have a value for each combination of levels, and levels an entry for each unit")


@dataclass(frozen=True)
class LatencyTable:
    """The measurements on one device.

    Attributes:
        setting: the request and the device.
        pieces: the measured time of each piece.
        dense_ns, smallest_ns: nanoseconds of the complete network, dense and with all units at their last level.
        activation_bytes: memory of a request on the dense network, without weights and KV cache.
    """

    setting: Setting
    pieces: tuple[TimedPiece, ...]
    dense_ns: Count
    smallest_ns: Count
    activation_bytes: Count

    def to_json(self) -> dict[str, Any]:
        """Return the table as a JSON object."""
        return {"schema": 1, **asdict(self)}

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """Read a table that `sparsesearch latency --out` wrote; raises InputError SS121."""
        try:
            return TypeAdapter(cls).validate_python(read_json(path))
        except DamagedFile as error:
            raise _table_error(path, error.reason) from None
        except ValidationError as error:
            first = error.errors()[0]
            place, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
            raise _table_error(path, f"{place}: {message}") from None

    def write(self, path: Path) -> None:
        """Write the table to a JSON file."""
        write_json(path, self.to_json(), indent=1)

    def check(self, config: LatencyConfig) -> None:
        """Raise InputError SS122 if the table was measured for another request or device than a recipe's."""
        if config.any_setting:
            return
        measured = asdict(self.setting)
        for name in ("device", "batch", "prompt", "generated", "dtype", "threads"):
            value = getattr(config, name)
            if value is not None and value != measured[name]:
                raise problem(
                    "SS122",
                    f"latency.{name} is {value}; {config.table} was measured with {measured[name]} on "
                    f"{self.setting.hardware}.",
                    fix="Measure another table, or set latency.any_setting: true.",
                )


def _table_error(path: Path, reason: str) -> SparseSearchError:
    return problem(
        "SS121",
        f"latency.table {path} is not a latency table: {reason}.",
        fix="'sparsesearch latency SPACE.yaml --out FILE' makes one.",
    )


def setting_of(config: LatencyConfig, network: Network, storage: torch.dtype) -> Setting:
    """Return the request of a recipe, on this machine.

    Args:
        storage: data type of the checkpoint, used if the recipe names none.

    Raises InputError SS123 if this machine has no such device, SS124 if the network cannot answer such a request.
    """
    tokens = network.task.data != "image"
    device, generated = config.device or "cpu", config.generated or 0
    prompt = (config.prompt or min(DEFAULT_PROMPT_TOKENS, network.max_length - generated)) if tokens else 0
    if generated and not network.task.generates:
        raise problem("SS124", f"latency.generated {generated}: a network for {network.task.name} generates nothing.")
    if tokens and (prompt < 1 or prompt + generated > network.max_length):
        raise problem(
            "SS124",
            f"latency: {max(prompt, 1)} tokens of prompt and {generated} generated exceed the model's "
            f"{network.max_length} positions.",
            fix="Lower latency.prompt or generated.",
        )
    dtype = config.dtype or str(storage).removeprefix("torch.")
    return Setting(device, hardware_of(device), config.batch or 1, prompt, generated, dtype, config.threads or 1)


def hardware_of(device: str) -> str:
    """Return the name of a device of this machine; raises InputError SS123 if there is no such device."""
    if device == "cpu":
        return _processor()
    available = accelerators()
    if device in available or device == accelerator():
        return device_name(device)
    devices = ["cpu", *available]
    raise problem(
        "SS123",
        f"latency.device {device!r} is not on this machine, which has {', '.join(devices)}.",
        fix="Measure a table on a machine that has it ('sparsesearch latency SPACE.yaml --out FILE') and give it as "
        "latency.table.",
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.processor() or platform.machine()} ({os.cpu_count()} cores)"
