"""The run configuration: a typed tree, in which unknown keys are errors."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sparsesearch.config.base import LARGEST, LONGEST, MANY, Finite, Strict, Text
from sparsesearch.config.data import DataConfigs
from sparsesearch.config.search import SearchConfig
from sparsesearch.config.training import SupernetConfig, TrainingConfig
from sparsesearch.config.units import PrunerConfig, UnitConfig
from sparsesearch.space.limit import Limit

# `package.module:function`, which returns a module.
FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
# Threads of a process at most.
THREADS = 1024


class ModelConfig(Strict):
    """Which network: `demo` (embedded), a directory, a Hugging Face hub id, or `package.module:function`."""

    id: Text = "demo"
    # Of a function that returns a module: a safetensors file with its state.
    weights: Text | None = None
    revision: Text | None = None
    # What candidates are compared with and distilled from: another directory or hub id with the same outputs (for a
    # function: another file for `weights`). null: the network itself, before it is pruned.
    teacher: Text | None = None
    # Arithmetic during the search; auto is float32 on a CPU and the checkpoint's type on a GPU, fast is bfloat16 where
    # the processor computes with it, else float32.
    compute_dtype: Literal["auto", "fast", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: bool = False


class ExecutorConfig(Strict):
    """Where workers run. Results do not depend on it, except through `threads` (the order of sums)."""

    kind: Literal["ray", "local"] = "ray"
    workers: int = Field(2, ge=1, le=MANY)
    threads: int = Field(1, ge=1, le=THREADS)
    gpus_per_worker: Finite = Field(0, ge=0, le=MANY)
    # Bytes of hidden states that a worker keeps, so that a candidate starts at its first block that is new.
    prefix_bytes: int = Field(2**30, ge=0, le=LARGEST)
    address: Text | None = None

    @property
    def device(self) -> str:
        return "cuda" if self.gpus_per_worker > 0 else "cpu"


class LatencyConfig(Strict):
    """What `latency_ns` and `memory_bytes` are of: a request to a device. null: as the table has it, or a default."""

    # cpu, cuda or cuda:N (cpu); sequences or images at once (1).
    device: Text | None = None
    batch: int | None = Field(None, ge=1, le=MANY)
    # Tokens read at once (128), and then one by one with a KV cache (0).
    prompt: int | None = Field(None, ge=1, le=LONGEST)
    generated: int | None = Field(None, ge=0, le=LONGEST)
    # Of weights and arithmetic (the checkpoint's), and threads of a CPU (1).
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    threads: int | None = Field(None, ge=1, le=THREADS)
    # A file that `sparsesearch latency --out` wrote, here or elsewhere; null: measured when a search begins.
    table: Text | None = None
    # Take a table of another request or kind of device than is said here.
    any_setting: bool = False


def _by_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class RunConfig(Strict):
    """Everything that determines a run."""

    version: Literal[1] = 1
    # Modules, or .py files, that register searchers, pruners, proxies or families of your own.
    plugins: list[Text] = []
    model: ModelConfig = ModelConfig()
    units: list[UnitConfig] = Field(min_length=1)
    # A finished run: levels are then a grid around its front, with steps half as large, and its front seeds the search.
    refines: Text | None = None
    pruners: PrunerConfig = PrunerConfig()
    supernet: Annotated[SupernetConfig, BeforeValidator(_by_kind)] = SupernetConfig()
    limits: list[str] = []
    # The first is the quality (kl or perplexity), the others are costs; all are minimised.
    objectives: list[str] = ["kl", "params"]
    data: DataConfigs = DataConfigs()
    # Context length, in tokens, of the MACs and KV-cache costs.
    context: int = Field(1024, ge=1, le=LONGEST)
    batch: int = Field(8, ge=1, le=MANY)
    latency: LatencyConfig = LatencyConfig()
    search: SearchConfig = SearchConfig()
    training: TrainingConfig = TrainingConfig()
    executor: ExecutorConfig = ExecutorConfig()

    @property
    def code(self) -> list[str]:
        """What is run beside sparsesearch when it is used: plug-ins, factories, code beside a model."""
        named = [name for name in (self.model.id, self.model.teacher) if name is not None]
        factories = [name for name in named if FACTORY.fullmatch(name)]
        beside = [f"code of {name}" for name in named if name not in factories and self.model.trust_remote_code]
        return [*self.plugins, *factories, *beside]

    def parsed_limits(self) -> tuple[Limit, ...]:
        return tuple(Limit.parse(text) for text in self.limits)
