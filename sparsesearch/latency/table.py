"""What a request is, on which device, and what its pieces take there."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sparsesearch.config import LatencyConfig
from sparsesearch.errors import DamagedFile, InputError
from sparsesearch.files import read_json, write_json
from sparsesearch.models.network import Network

# Of a recipe that says nothing: tokens of the prompt.
PROMPT = 128


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
    batch: int
    prompt: int
    generated: int
    dtype: str
    threads: int

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
    ns: tuple[int, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Timed:
        levels = tuple(tuple(own) for own in data["levels"])
        return cls(data["place"], tuple(data["units"]), levels, data["drop"], tuple(data["ns"]))


@dataclass(frozen=True)
class LatencyTable:
    """What was measured on a device.

    Attributes:
        dense_ns, smallest_ns: the whole network, dense and with all units at their smallest level.
        activation_bytes: memory of a request on the dense network beside weights and KV cache.
    """

    setting: Setting
    pieces: tuple[Timed, ...]
    dense_ns: int
    smallest_ns: int
    activation_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """The table that `sparsesearch latency --out` wrote; raises InputError SS121."""
        try:
            data = read_json(path)
            data.pop("schema")
            pieces = tuple(Timed.from_json(piece) for piece in data.pop("pieces"))
            return cls(setting=Setting(**data.pop("setting")), pieces=pieces, **data)
        except DamagedFile as error:
            raise InputError("SS121", f"cannot read latency.table {path}: {error.reason}.") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(
                "SS121", f"{path} is no latency table.", "'sparsesearch latency SPACE.yaml --out FILE' makes one."
            ) from None

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
                raise InputError(
                    "SS122", f"latency.{name} is {wanted}; {config.table} was measured with {own[name]} on "
                    f"{self.setting.hardware}.", "Measure another table, or set latency.any_setting: true.",
                )  # fmt: skip


def setting_of(config: LatencyConfig, network: Network, storage: torch.dtype) -> Setting:
    """The request that a recipe describes, on this machine.

    Raises InputError SS123 where the device is not here, SS124 where the network cannot answer such a request.
    """
    tokens = network.task.data != "image"
    device, generated = config.device or "cpu", config.generated or 0
    prompt = (config.prompt or min(PROMPT, network.max_length - generated)) if tokens else 0
    if generated and not network.task.generates:
        raise InputError(
            "SS124", f"latency.generated {generated}: a network for {network.task.name} generates nothing."
        )
    if tokens and prompt + generated > network.max_length:
        raise InputError(
            "SS124", f"latency: {prompt} tokens of prompt and {generated} generated exceed the model's "
            f"{network.max_length} positions.", "Lower latency.prompt or generated.",
        )  # fmt: skip
    dtype = config.dtype or str(storage).removeprefix("torch.")
    return Setting(device, hardware_of(device), config.batch or 1, prompt, generated, dtype, config.threads or 1)


def hardware_of(device: str) -> str:
    """The name of a device of this machine; raises InputError SS123 where it is not here."""
    if device == "cpu":
        return _processor()
    kind, _, number = device.partition(":")
    if kind == "cuda" and (int(number) if number.isdigit() else 0) < torch.cuda.device_count():
        return torch.cuda.get_device_name(device)
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    raise InputError(
        "SS123", f"latency.device {device!r} is not on this machine, which has {', '.join(there)}.",
        "Measure a table where it is ('sparsesearch latency SPACE.yaml --out FILE') and give it as latency.table.",
    )  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.processor() or platform.machine()} ({os.cpu_count()} cores)"
