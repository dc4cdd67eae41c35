"""The run configuration: a typed tree, in which unknown keys are errors."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sparsesearch.config.base import LARGEST, LONGEST, MANY, Finite, Strict, Text
from sparsesearch.config.data import DataConfigs
from sparsesearch.config.search import SearchConfig
from sparsesearch.config.training import SUPERNETS, SupernetConfig, TrainingConfig
from sparsesearch.config.units import PrunerConfig, UnitConfig
from sparsesearch.space.cost import COSTS
from sparsesearch.space.limit import Limit

# `package.module:function`, a function that returns a module.
FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
# Most threads of a process.
THREADS = 1024


class ModelConfig(Strict):
    """The network, its teacher, and the arithmetic."""

    id: Text = Field(
        "demo",
        description="`demo` (a small language model in the package), a directory, a Hugging Face hub id, or "
        "`package.module:function`, a function that returns a module.",
    )
    weights: Text | None = Field(
        None, description="A safetensors file with the state of the module that a function returns."
    )
    revision: Text | None = Field(
        None, description="Branch, tag or commit of a hub id; null: the head of its main branch."
    )
    teacher: Text | None = Field(
        None,
        description="Network that candidates are compared with and distilled from: another directory or hub id with "
        "the same outputs, or for a function another file for `weights`; null: the network before it is pruned.",
    )
    compute_dtype: Literal["auto", "fast", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Data type of the arithmetic during the search; `auto`: float32 on a CPU, the checkpoint's on a "
        "GPU; `fast`: bfloat16 if the processor computes with it, else float32.",
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")


class ExecutorConfig(Strict):
    """Where workers run. Results do not depend on it, except through `threads` (the order of sums)."""

    kind: Literal["ray", "local"] = Field(
        "ray",
        description="Workers are processes of Ray (`ray`), or one worker is in the process of the search (`local`).",
    )
    workers: int = Field(2, ge=1, le=MANY, description="Number of workers, if `kind` is ray.")
    threads: int = Field(1, ge=1, le=THREADS, description="CPU threads of a worker.")
    gpus_per_worker: Finite = Field(
        0, ge=0, le=MANY, description="GPUs of a worker, which may be a fraction of one; 0: it computes on the CPU."
    )
    prefix_bytes: int = Field(
        2**30,
        ge=0,
        le=LARGEST,
        description="Bytes of hidden states that a worker keeps, so that a candidate starts at its first block that is "
        "new; the default is 1 GiB.",
    )
    address: Text | None = Field(
        None, description="Address of the Ray cluster to join; null: one is started on this machine."
    )


class LatencyConfig(Strict):
    """The request to a device whose latency and memory are the costs `latency_ns` and `memory_bytes`.

    null is the value of `table` or, without a table, the default that the key's description names.
    """

    device: Text | None = Field(
        None, description="`cpu`, or an accelerator such as `cuda` or `cuda:N`; by default `cpu`."
    )
    batch: int | None = Field(None, ge=1, le=MANY, description="Sequences or images in the request; by default 1.")
    prompt: int | None = Field(
        None,
        ge=1,
        le=LONGEST,
        description="Tokens read at once; by default 128, or as many as the model has positions for.",
    )
    generated: int | None = Field(
        None,
        ge=0,
        le=LONGEST,
        description="Tokens generated after the prompt, one by one with a KV cache; by default 0.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Data type of weights and arithmetic; by default the checkpoint's."
    )
    threads: int | None = Field(None, ge=1, le=THREADS, description="Threads of a CPU; by default 1.")
    table: Text | None = Field(
        None,
        description="A file that `sparsesearch latency --out` wrote, here or on another machine; null: if an objective "
        "or limit needs a table, it is measured before a search begins, and by `space check`.",
    )
    any_setting: bool = Field(
        False,
        description="Accept a table that was measured with another request or device than the keys above describe.",
    )


def _by_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class _KindAlone:
    """Adds the short form, the name of a kind alone, to the JSON schema of a supernet."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "enum": list(SUPERNETS)}, handler(core_schema)]}


class RunConfig(Strict):
    """Everything that determines a run."""

    version: Literal[1] = Field(1, description="Version of the format of recipes.")
    plugins: list[Text] = Field(
        [],
        description="Modules, or .py files, that register parts of your own: searchers, pruners, orders of experts, "
        "allocations, proxies, learners, families, qualities, export forms or trackers.",
    )
    model: ModelConfig = Field(ModelConfig(), description="The network to prune.")
    units: list[UnitConfig] = Field(
        min_length=1, description="Families of units: the places where the network can be pruned, and their levels."
    )
    refines: Text | None = Field(
        None,
        description="Directory of a finished run to refine: levels become those of its front and those half-way to "
        "their neighbours, and its front seeds the search; null: levels are those of `units`.",
    )
    pruners: PrunerConfig = Field(PrunerConfig(), description="How the levels of units are made.")
    supernet: Annotated[SupernetConfig, BeforeValidator(_by_kind), _KindAlone()] = Field(
        SupernetConfig(),
        description="Where candidates' weights come from: a kind alone (`sparsesearch list supernets`), or these keys.",
    )
    limits: list[str] = Field(
        [],
        description="Bounds that every candidate must meet: on a cost, relative to dense (`params<=60%`) or absolute "
        "(`params<=1.2M`, `kv_bytes<=3MiB`, `latency_ms<=4.5`), or `sparsity>=70%`.",
    )
    objectives: list[str] = Field(
        ["kl", "params"],
        description="The quality first (kl, perplexity or another one of the task), then one or more costs "
        f"({', '.join(COSTS)}); all are minimised.",
    )
    data: DataConfigs = Field(DataConfigs(), description="Data sets for calibration, selection, training and test.")
    context: int = Field(
        1024, ge=1, le=LONGEST, description="Context length, in tokens, of the costs `macs` and `kv_bytes`."
    )
    batch: int = Field(
        8, ge=1, le=MANY, description="Sequences or images in a forward pass of calibration and measurement."
    )
    latency: LatencyConfig = Field(
        LatencyConfig(), description="Request and device of the costs `latency_ns` and `memory_bytes`."
    )
    search: SearchConfig = Field(SearchConfig(), description="The searcher, its budget, and the final measurements.")
    training: TrainingConfig = Field(
        TrainingConfig(), description="How candidates are trained, in short runs after a search and in recovery."
    )
    executor: ExecutorConfig = Field(ExecutorConfig(), description="Where workers run.")

    @property
    def code(self) -> list[str]:
        """Return the code of others that a run executes: plug-ins, factories, and code that comes with a model."""
        models = [name for name in (self.model.id, self.model.teacher) if name is not None]
        factories = [name for name in models if FACTORY.fullmatch(name)]
        remote = [f"code of {name}" for name in models if name not in factories and self.model.trust_remote_code]
        return [*self.plugins, *factories, *remote]

    def parsed_limits(self) -> tuple[Limit, ...]:
        """Return the limits, parsed; raises InputError SS102 or SS105."""
        return tuple(Limit.parse(text) for text in self.limits)
