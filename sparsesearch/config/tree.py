"""The run configuration: a typed tree, in which unknown keys are errors."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from sparsesearch.space.limit import Limit

Kind = Literal[
    "sparsity",
    "ffn_width",
    "kv_groups",
    "q_heads",
    "experts",
    "expert_width",
    "channels",
    "kernel",
    "drop_attention",
    "drop_ffn",
]


def _fraction(value: Any) -> Any:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([0-9]+\.?[0-9]*)\s*%\s*", value)):
        if float(match.group(1)) > 100:
            raise ValueError(f"{value} is outside [0, 1].")
        return float(match.group(1)) / 100
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value <= 1:
        raise ValueError(f'{value} is outside [0, 1]. For percent write "{value}%".')
    return value


Fraction = Annotated[float, BeforeValidator(_fraction), Field(ge=0, le=1)]


# A data source that came from Python; only the run directory's own copy can give it back.
PYTHON_SOURCE = "python"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Strict):
    """Which network: `demo` (embedded), a directory, a Hugging Face hub id, or `package.module:function`."""

    id: str = "demo"
    # Of a function that returns a module: a safetensors file with its state.
    weights: str | None = None
    revision: str | None = None
    # What candidates are compared with and distilled from: another directory or hub id with the same outputs (for a
    # function: another file for `weights`). null: the network itself, before it is pruned.
    teacher: str | None = None
    # Arithmetic during the search; auto is float32 on a CPU and the checkpoint's type on a GPU, fast is bfloat16 where
    # the processor computes with it, else float32.
    compute_dtype: Literal["auto", "fast", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: bool = False


class Grid(Strict):
    """Sparsity levels at equal numbers of weights around a centre, as EvoPress builds them."""

    around: Fraction
    radius: int = Field(8, ge=1, le=100)
    # Weights between two levels; None is EvoPress's default, 0.5 * min(s, 1 - s) / radius * hidden_size^2.
    step: int | None = Field(None, ge=1)


# FFN widths that the export form nemotron_nas can say are multiples of this.
NEMOTRON_NAS_WIDTH = 256


def _multiple(value: Any) -> Any:
    if value != "nemotron_nas" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("align is a number of elements, at least 1, or nemotron_nas")
    return value


Align = Annotated[int | Literal["nemotron_nas"], BeforeValidator(_multiple)]


class UnitConfig(Strict):
    """One family of units: a kind, which modules, and their levels."""

    kind: Kind
    target: str = "*"
    # sparsity: how many levels, or sparsities, or a grid. Widths and groups: how many levels, or fractions kept.
    levels: int | list[Fraction] | Grid | None = None
    # With a number of levels: the largest sparsity, and the smallest fraction kept.
    max_sparsity: Fraction = 0.95
    min_kept: Fraction = 0.25
    # Widths in multiples of this; nemotron_nas (ffn_width of Llama): the nearest widths that this export form can say.
    align: Align = 1
    # Blocks that stay as they are; negative numbers count from the end.
    protect: list[int] = []

    @model_validator(mode="after")
    def _for_widths(self) -> UnitConfig:
        if self.align == "nemotron_nas" and self.kind != "ffn_width":
            raise ValueError(f"align: nemotron_nas is for kind ffn_width, not for {self.kind}")
        return self

    @property
    def multiple(self) -> int:
        """What `align` asks for, in elements."""
        return NEMOTRON_NAS_WIDTH if self.align == "nemotron_nas" else self.align


def _n_of_m(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value // 60}:{value % 60}"  # YAML 1.1 reads a plain 2:4 as a number of base 60.
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", str(value))
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError('a pattern is "N:M", N of M adjacent weights are kept, N < M, such as "2:4"')
    return value


Pattern = Annotated[str, BeforeValidator(_n_of_m)]


class PrunerConfig(Strict):
    """How the levels are made."""

    sparsity: str = "sparsegpt"
    width: str = "obs"
    experts: str = "reap"
    damp: float = Field(0.01, gt=0, le=1)
    # Sparsity: keep N of every M adjacent weights of a row, which leaves one pruned level.
    pattern: Pattern | None = None
    # Sparsity, pruners that keep values: swap weights until each row's mean output is right.
    polish: Literal["dsnot"] | None = None
    # Width, pruners that keep values: refit what stays by least squares, as obs always does.
    refit: bool = False
    # Add (W - pruned W) E[x] to the bias of every pruned matrix, so that mean outputs stay; matrices without get one.
    compensate: bool = False
    # gblm: weight of the gradients; 25 is the published 100 at 128 samples of 2048 tokens.
    alpha: float = Field(25.0, ge=0, allow_inf_nan=False)
    # taylor: first order |w g| or second order w² g².
    order: Literal[1, 2] = 1
    # random.
    seed: int = Field(0, ge=0)
    # What the calibration inputs of a block have passed through: the dense blocks before it, the same pruned at the
    # middle level, or at the expectation over all levels.
    propagate: Literal["dense", "sequential", "expectation"] = "dense"


class ImageConfig(Strict):
    """How images become arrays: square of `size` pixels, (pixel / 255 - mean) / std for red, green, blue."""

    size: int = Field(ge=1)
    mean: list[float] = Field([0.0, 0.0, 0.0], min_length=3, max_length=3)
    std: list[float] = Field([1.0, 1.0, 1.0], min_length=3, max_length=3)


class DataConfig(Strict):
    """Text as windows of `length` tokens, or images.

    `source` is a file of text, a .parquet file, `stdlib:calibration|selection|test` or `datasets:ID[:CONFIG[:SPLIT]]`,
    or a list of them; for images a folder (with a folder for each class), .parquet files or a `datasets` id.
    """

    source: str | list[str]
    # Windows, or images; with `fewer` what there is where the source has not so many.
    sequences: int = Field(128, ge=1)
    fewer: bool = False
    length: int = Field(256, ge=2)
    column: str = "text"
    # Of tables: the column of integer classes. A classifier of texts takes documents with them one by one.
    label: str = "label"
    # How images become arrays (the model's own way where null).
    image: ImageConfig | None = None
    # Which windows of a longer text: spread evenly over all of it, or the first ones.
    take: Literal["spread", "first"] = "spread"


class DataConfigs(Strict):
    calibration: DataConfig = DataConfig(source="stdlib:calibration")
    selection: DataConfig = DataConfig(source="stdlib:selection", sequences=64)
    # What candidates are trained on; null: the calibration samples.
    training: DataConfig | None = None
    # Read once, after the search; null for none.
    test: DataConfig | None = None
    # Images that running statistics of batch normalisation are measured on again, for every candidate.
    batch_norm: int = Field(256, ge=1)
    # Let roles share windows. Scores are then optimistic; for reproducing papers that did so.
    allow_shared: bool = False


class Rung(Strict):
    """A rung of training that candidates climb when a search has ended."""

    # Training tokens in all, those of the rungs below among them.
    tokens: int = Field(ge=1)
    # Candidates that reach it: the best of the rung below, at all sizes.
    candidates: int = Field(ge=1)


class ScreenConfig(Strict):
    """A proxy that chooses which children are measured, once it was seen to rank candidates as measurements do."""

    # One that reads matrices; `sparsesearch list proxies`.
    proxy: str
    # Made for each that is measured.
    children: int = Field(4, ge=2)
    # Share of the measured ones that are chosen blindly.
    unscreened: Fraction = 0.25
    # Candidates of equal cost that the proxy is compared on first, and selection tokens of each.
    candidates: int = Field(32, ge=8)
    tokens: int = Field(2048, ge=1)


class SearchConfig(Strict):
    """Who proposes candidates, how each is measured, and when to stop."""

    searcher: str = "auto"
    # Options of the searcher; `sparsesearch list searchers` shows them.
    options: dict[str, Any] = {}
    # Bounds on the search; the measurements on all selection data that end it come on top.
    evals: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1)
    hours: float | None = Field(None, gt=0)
    # Give a free worker the next child at once, without waiting for the rest of its generation (nsga2, nsga3, auto).
    # Workers never idle, but results depend on who is first.
    asynchronous: bool = False
    # What generation 0 holds beside the uniform ones: closed-form allocations (`sparsesearch list allocations`), and
    # fronts of other runs on the same model, by their directories (with a slash).
    seeds: list[str] = []
    # A proxy that chooses among children (random, nsga2, nsga3, evolution).
    screen: ScreenConfig | None = None
    # Candidates measured on all selection data when the search ends (`evolution` takes its last four parents).
    final: int = Field(24, ge=1)
    # What the best of those climb then: short training runs on rising numbers of tokens, fewer candidates each.
    rungs: list[Rung] = []
    seed: int = Field(0, ge=0)

    @field_validator("rungs")
    @classmethod
    def _ladder(cls, rungs: list[Rung]) -> list[Rung]:
        for lower, upper in pairwise(rungs):
            if upper.tokens <= lower.tokens or upper.candidates > lower.candidates:
                raise ValueError("each rung takes more tokens than the one below, and no more candidates")
        return rungs


class TrainingConfig(Strict):
    """How candidates are trained, in short runs and in recovery; the same data in the same order for all."""

    # All weights; biases and norms alone (PERP); low-rank updates, merged at the end (lora, of networks without
    # unstructured sparsity; masked_lora, inside the masks); or no gradients: biases and batch statistics are shifted
    # until mean outputs are the dense network's (compensate).
    method: Literal["full", "perp", "lora", "masked_lora", "compensate"] = "full"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    # Of the learning rate, after a share of `warmup` steps: to zero along a cosine, constant, or constant with a linear
    # fall to zero in the last fifth.
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    warmup: Fraction = 0.05
    # Samples a step.
    batch: int = Field(8, ge=1)
    # Largest norm of a step's gradients.
    clip: float = Field(1.0, gt=0)
    # Weight of the distillation from the dense network, against 1 - that of the task's own loss.
    distill: Fraction = 1.0
    temperature: float = Field(1.0, gt=0)
    # Weight of the relative squared difference of the blocks' outputs to the dense network's, added to the loss.
    hidden: float = Field(0.0, ge=0, allow_inf_nan=False)
    # Of low-rank updates: their rank, and what they are scaled by, times the rank.
    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    seed: int = Field(0, ge=0)


SupernetKind = Literal["stitched", "sorted", "sandwich", "random", "random_linear", "block_local"]
SUPERNETS: dict[SupernetKind, str] = {
    "stitched": "of each unit the levels that pruners made, put together from the level store",
    "sorted": "one network, elements sorted by importance, of which a candidate has the first ones",
    "sandwich": "the same, trained: the largest, the narrowest and random sub-networks each step",
    "random": "the same, trained: random sub-networks each step",
    "random_linear": "the same, trained: random sub-networks with a chance that rises along the way, else the largest",
    "block_local": "the same, trained: every block alone, at random sizes, towards the dense block's outputs",
}


class SupernetConfig(Strict):
    """Whose weights candidates have; `supernet: KIND` is short for `supernet: {kind: KIND}`."""

    # `SUPERNETS`; sparsesearch list supernets.
    kind: SupernetKind = "stitched"
    # Training tokens, those of each sub-network of a step counted; null: the training data, by one sub-network a step.
    tokens: int | None = Field(None, ge=1)
    # Random sub-networks a step; of sandwich, beside the largest and the narrowest.
    subnets: int = Field(2, ge=1)
    # Of random sub-networks: each level alike, sizes alike (balanced), or levels the likelier the smaller (inverse).
    sampling: Literal["uniform", "balanced", "inverse"] = "uniform"
    # What sub-networks are distilled from: the dense network, or the largest one of the same step (sandwich).
    distill_from: Literal["dense", "largest"] = "dense"
    # Sub-networks run with really smaller tensors, or with zeros for what they leave out.
    execution: Literal["sliced", "masked"] = "sliced"
    # All weights are trained, or low-rank updates of all linears.
    weights: Literal["full", "lora"] = "full"
    # Progressive shrinking: kinds that become elastic one stage after another, stages of equal length; others are from
    # the beginning.
    stages: list[list[Kind]] = []
    # A trained supernet of the same network to begin with (its directory, or that of a run that has one).
    start: str | None = None
    # How it is trained; `training` is how candidates are.
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _of_use(self) -> SupernetConfig:
        if not self.is_trained:
            own = {"kind", "start"}
            set_ = [n for n, f in type(self).model_fields.items() if n not in own and getattr(self, n) != f.default]
            if set_:
                raise ValueError(f"{set_[0]} is for a supernet that is trained; {self.kind} is not")
        if self.training.method != "full":
            raise ValueError("training.method is full; low-rank updates are weights: lora")
        if self.kind == "block_local" and self.training.temperature != 1:
            raise ValueError("training.temperature: block_local compares hidden states, not distributions")
        if not self.is_elastic and self.start is not None:
            raise ValueError("start is for a supernet of one network; stitched has its levels from the level store")
        if self.distill_from == "largest" and self.kind != "sandwich":
            raise ValueError(
                f"distill_from: largest is for kind sandwich, where each step runs it; not for {self.kind}"
            )
        return self

    @property
    def is_elastic(self) -> bool:
        """Whether candidates are parts of one network."""
        return self.kind != "stitched"

    @property
    def is_trained(self) -> bool:
        return self.kind not in ("stitched", "sorted")


def _by_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class ExecutorConfig(Strict):
    """Where workers run. Results do not depend on it, except through `threads` (the order of sums)."""

    kind: Literal["ray", "local"] = "ray"
    workers: int = Field(2, ge=1)
    threads: int = Field(1, ge=1)
    gpus_per_worker: float = Field(0, ge=0)
    # Bytes of hidden states that a worker keeps, so that a candidate starts at its first block that is new.
    prefix_bytes: int = Field(2**30, ge=0)
    address: str | None = None

    @property
    def device(self) -> str:
        return "cuda" if self.gpus_per_worker > 0 else "cpu"


class LatencyConfig(Strict):
    """What `latency_ns` and `memory_bytes` are of: a request to a device. null: as the table has it, or a default."""

    # cpu, cuda or cuda:N (cpu); sequences or images at once (1).
    device: str | None = None
    batch: int | None = Field(None, ge=1)
    # Tokens read at once (128), and then one by one with a KV cache (0).
    prompt: int | None = Field(None, ge=1)
    generated: int | None = Field(None, ge=0)
    # Of weights and arithmetic (the checkpoint's), and threads of a CPU (1).
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    threads: int | None = Field(None, ge=1)
    # A file that `sparsesearch latency --out` wrote, here or elsewhere; null: measured when a search begins.
    table: str | None = None
    # Take a table of another request or kind of device than is said here.
    any_setting: bool = False


class RunConfig(Strict):
    """Everything that determines a run."""

    version: Literal[1] = 1
    # Modules, or .py files, that register searchers, pruners, proxies or families of your own.
    plugins: list[str] = []
    model: ModelConfig = ModelConfig()
    units: list[UnitConfig] = Field(min_length=1)
    # A finished run: levels are then a grid around its front, with steps half as large, and its front seeds the search.
    refines: str | None = None
    pruners: PrunerConfig = PrunerConfig()
    supernet: Annotated[SupernetConfig, BeforeValidator(_by_kind)] = SupernetConfig()
    limits: list[str] = []
    # The first is the quality (kl or perplexity), the others are costs; all are minimised.
    objectives: list[str] = ["kl", "params"]
    data: DataConfigs = DataConfigs()
    # Context length, in tokens, of the MACs and KV-cache costs.
    context: int = Field(1024, ge=1)
    batch: int = Field(8, ge=1)
    latency: LatencyConfig = LatencyConfig()
    search: SearchConfig = SearchConfig()
    training: TrainingConfig = TrainingConfig()
    executor: ExecutorConfig = ExecutorConfig()

    def parsed_limits(self) -> tuple[Limit, ...]:
        return tuple(Limit.parse(text) for text in self.limits)
