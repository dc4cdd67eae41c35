"""What a request is, on which device, and what its pieces take there."""

from __future__ import annotations

import math
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError

from sparsesearch.config import LatencyConfig
from sparsesearch.errors import DamagedFile, SparseSearchError, problem
from sparsesearch.files import read_json, write_json
from sparsesearch.models.network import Network

# Of a recipe that says nothing: tokens of the prompt.
PROMPT = 128
# Nanoseconds, bytes or counts: sums of many fit 64 bits.
Whole = Annotated[int, Field(ge=0, le=10**15)]


@dataclass(frozen=True)
class Setting:
    """A request and the device that answers it.

    Attributes:
        device: as torch names it.
        hardware: the name of the processor or accelerator.
        batch: sequences, or images.
        prompt: tokens read at once; 0 where samples are not token sequences.
        generated: tokens that follow, one by one, with a KV cache.
        dtype: of weights and arithmetic.
        threads: of a CPU.
    """

    device: str
    hardware: str
    batch: Whole
    prompt: Whole
    generated: Whole
    dtype: str
    threads: Whole

    def __post_init__(self) -> None:
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(f"{self.dtype} is no data type")

    @property
    def bytes_per_value(self) -> int:
        size: int = getattr(torch, self.dtype).itemsize
        return size

    @property
    def tokens(self) -> int:
        """Tokens of a sequence when the request ends."""
        return self.prompt + self.generated


@dataclass(frozen=True)
class Timed:
    """What one piece takes.

    Attributes:
        place: dotted path of the module that was timed.
        units: names of the units that narrow it.
        levels: of each of them, as elements kept.
        drop: name of the unit that takes it away, or None.
        ns: nanoseconds at each combination of levels, the last unit's running fastest, above what is left without the
            piece, or where it never leaves above the least of them.
    """

    place: str
    units: tuple[str, ...]
    levels: tuple[tuple[int, ...], ...]
    drop: str | None
    ns: tuple[Whole, ...]

    def __post_init__(self) -> None:
        if len(self.units) != len(self.levels) or len(self.ns) != math.prod(map(len, self.levels)):
            raise ValueError("one value in ns for each combination of levels, and levels for each unit")


@dataclass(frozen=True)
class LatencyTable:
    """What was measured on a device.

    Attributes:
        dense_ns, smallest_ns: the whole network, dense and with all units at their smallest level.
        activation_bytes: memory of a request on the dense network beside weights and KV cache.
    """

    setting: Setting
    pieces: tuple[Timed, ...]
    dense_ns: Whole
    smallest_ns: Whole
    activation_bytes: Whole

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """The table that `sparsesearch latency --out` wrote; raises InputError SS121."""
        try:
            return TypeAdapter(cls).validate_python(read_json(path))
        except DamagedFile as error:
            raise _no_table(path, error.reason) from None
        except ValidationError as error:
            first = error.errors()[0]
            place, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
            raise _no_table(path, f"{place}: {message}") from None

    def write(self, path: Path) -> None:
        write_json(path, self.to_json(), indent=1)

    def check(self, config: LatencyConfig) -> None:
        """Raise InputError SS122 where the table is of another request or kind of device than a recipe says."""
        if config.any_setting:
            return
        own = asdict(self.setting)
        for name in ("device", "batch", "prompt", "generated", "dtype", "threads"):
            wanted = getattr(config, name)
            if wanted is not None and wanted != own[name]:
                raise problem(
                    "SS122",
                    f"latency.{name} is {wanted}; {config.table} was measured with {own[name]} on "
                    f"{self.setting.hardware}.",
                    fix="Measure another table, or set latency.any_setting: true.",
                )


def _no_table(path: Path, reason: str) -> SparseSearchError:
    return problem(
        "SS121",
        f"latency.table {path} is no latency table: {reason}.",
        fix="'sparsesearch latency SPACE.yaml --out FILE' makes one.",
    )


def setting_of(config: LatencyConfig, network: Network, storage: torch.dtype) -> Setting:
    """The request that a recipe describes, on this machine.

    Raises InputError SS123 where the device is not here, SS124 where the network cannot answer such a request.
    """
    tokens = network.task.data != "image"
    device, generated = config.device or "cpu", config.generated or 0
    prompt = (config.prompt or min(PROMPT, network.max_length - generated)) if tokens else 0
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
    """The name of a device of this machine; raises InputError SS123 where it is not here."""
    if device == "cpu":
        return _processor()
    kind, _, number = device.partition(":")
    if kind == "cuda" and (int(number) if re.fullmatch("[0-9]{1,4}", number) else 0) < torch.cuda.device_count():
        return torch.cuda.get_device_name(device)
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    raise problem(
        "SS123",
        f"latency.device {device!r} is not on this machine, which has {', '.join(there)}.",
        fix="Measure a table where it is ('sparsesearch latency SPACE.yaml --out FILE') and give it as latency.table.",
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.processor() or platform.machine()} ({os.cpu_count()} cores)"
