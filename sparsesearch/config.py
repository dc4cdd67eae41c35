"""The run configuration: a typed tree, read from a YAML recipe. Unknown keys are errors with line and suggestion."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sparsesearch.errors import InputError, did_you_mean
from sparsesearch.space.limit import Limit
from sparsesearch.space.unit import KINDS

Kind = Literal[
    "sparsity", "ffn_width", "kv_groups", "experts", "expert_width", "channels", "drop_attention", "drop_ffn"
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


class UnitConfig(Strict):
    """One family of units: a kind, which modules, and their levels."""

    kind: Kind
    target: str = "*"
    # sparsity: how many levels, or sparsities, or a grid. Widths and groups: how many levels, or fractions kept.
    levels: int | list[Fraction] | Grid | None = None
    # With a number of levels: the largest sparsity, and the smallest fraction kept.
    max_sparsity: Fraction = 0.95
    min_kept: Fraction = 0.25
    align: int = Field(1, ge=1)
    # Blocks that stay as they are; negative numbers count from the end.
    protect: list[int] = []


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
    # Windows, or images.
    sequences: int = Field(128, ge=1)
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
    # Read once, after the search; null for none.
    test: DataConfig | None = None
    # Images that running statistics of batch normalisation are measured on again, for every candidate.
    batch_norm: int = Field(256, ge=1)
    # Let roles share windows. Scores are then optimistic; for reproducing papers that did so.
    allow_shared: bool = False


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
    # Closed-form allocations that generation 0 holds beside the uniform ones; `sparsesearch list allocations`.
    seeds: list[str] = []
    # Candidates measured on all selection data when the search ends (`evolution` takes its last four parents).
    final: int = Field(24, ge=1)
    seed: int = Field(0, ge=0)


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


class RunConfig(Strict):
    """Everything that determines a run."""

    version: Literal[1] = 1
    model: ModelConfig = ModelConfig()
    units: list[UnitConfig] = Field(min_length=1)
    # A finished run: levels are then a grid around its front, with steps half as large, and its front seeds the search.
    refines: str | None = None
    pruners: PrunerConfig = PrunerConfig()
    limits: list[str] = []
    # The first is the quality (kl or perplexity), the others are costs; all are minimised.
    objectives: list[str] = ["kl", "params"]
    data: DataConfigs = DataConfigs()
    # Context length, in tokens, of the MACs and KV-cache costs.
    context: int = Field(1024, ge=1)
    batch: int = Field(8, ge=1)
    search: SearchConfig = SearchConfig()
    executor: ExecutorConfig = ExecutorConfig()

    def parsed_limits(self) -> tuple[Limit, ...]:
        return tuple(Limit.parse(text) for text in self.limits)


def load_config(path: Path, overrides: dict[str, Any] | None = None) -> RunConfig:
    """Read a recipe and apply `{"key.path": value}` overrides; raises InputError SS100, SS101 or SS105."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError("SS100", f"cannot read {path}: {error.strerror}.", "Recipes are in search_spaces/.") from None
    try:
        tree = yaml.safe_load(text)
        lines = _line_numbers(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise InputError("SS100", f"{path}: not valid YAML: {_yaml_problem(error)}") from None
    if not isinstance(tree, dict):
        raise InputError("SS100", f"{path}: a recipe is a mapping of keys to values, got {type(tree).__name__}.")
    for key, value in (overrides or {}).items():
        override(tree, key, value)
        # What an option sets has no line in the file.
        place = tuple(int(k) if k.isdigit() else k for k in key.split("."))
        lines = {where: line for where, line in lines.items() if where[: len(place)] != place}
        lines[place] = 0
    return validate(tree, str(path), lines)


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}." if mark else what


def validate(tree: dict[str, Any], where: str, lines: dict[tuple[Any, ...], int] | None = None) -> RunConfig:
    """Build a RunConfig from plain data; the first problem becomes one InputError line."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        problems = error.errors()
        place = _plain(problems[0]["loc"])
        # A value that may be of several types fails as each of them; the one it came furthest in is the one meant.
        same = [p for p in problems if _plain(p["loc"])[: len(place)] == place]
        raise _explain(max(same, key=lambda p: len(p["loc"])), where, lines or {}) from None


def _explain(problem: Any, where: str, lines: dict[tuple[Any, ...], int]) -> InputError:
    path = _plain(problem["loc"])
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    place = f"{where}:{line}" if line else "option" if line == 0 else where
    dotted = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
    if problem["type"] == "extra_forbidden":
        allowed = _fields_at(path[:-1])
        return InputError(
            "SS101",
            f"{place} {dotted}: unknown key. {did_you_mean(str(path[-1]), allowed)}Allowed: {', '.join(allowed)}.",
        )
    message = problem["msg"].removeprefix("Value error, ")
    if path[-1:] == ("kind",) and len(path) == 3:
        return InputError(
            "SS102", f"{place} {dotted}: {problem['input']!r}. {did_you_mean(str(problem['input']), KINDS)}{message}."
        )
    code = "SS105" if "outside [0, 1]" in message else "SS101"
    got = "" if code == "SS105" or problem["type"] == "missing" else f", got {problem['input']!r}"
    return InputError(code, f"{place} {dotted}: {message}{got}")


def _plain(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """A place in the tree, without the tags that pydantic adds for the members of a union."""
    return tuple(p for p in path if not (isinstance(p, str) and (p in ("int", "str", "Grid") or "[" in p)))


def _fields_at(path: tuple[Any, ...]) -> list[str]:
    """Keys allowed at a place of the tree, found by walking the model classes."""
    cls: type[BaseModel] = RunConfig
    for part in path:
        if isinstance(part, str):
            cls = _nested_model(cls.model_fields[part].annotation) or cls
    return list(cls.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _nested_model(arg))), None)


def _line_numbers(node: yaml.Node | None) -> dict[tuple[Any, ...], int]:
    found: dict[tuple[Any, ...], int] = {}

    def walk(node: yaml.Node | None, path: tuple[Any, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                found[(*path, key.value)] = key.start_mark.line + 1
                walk(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for i, item in enumerate(node.value):
                found[(*path, i)] = item.start_mark.line + 1
                walk(item, (*path, i))

    walk(node, ())
    return found


def override(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set `key.path` in a recipe's plain data; raises InputError SS101 where there is no such place."""
    *parents, last = key.split(".")
    place: Any = tree
    try:
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (AttributeError, IndexError, TypeError, ValueError):
        raise InputError("SS101", f"cannot set {key}: the recipe has no group of keys there.") from None


def parse_assignment(text: str) -> tuple[str, Any]:
    """`key.path=value` with a YAML value, as `--set` takes it."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise InputError("SS101", f"--set {text!r} is not of the form key.path=value.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError("SS101", f"--set {text!r}: the value is not valid YAML.") from None


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same configuration with existing relative paths made absolute, so that it works from any directory."""

    def absolute(text: str) -> str:
        path = Path(text).expanduser()
        return str(path.resolve()) if text != PYTHON_SOURCE and path.exists() else text

    tree = config.model_dump()
    if config.model.id != "demo":
        tree["model"]["id"] = absolute(config.model.id)
    if config.model.weights is not None:
        tree["model"]["weights"] = absolute(config.model.weights)
    if config.refines is not None:
        tree["refines"] = absolute(config.refines)
    for role in ("calibration", "selection", "test"):
        if tree["data"][role] is not None:
            source = tree["data"][role]["source"]
            tree["data"][role]["source"] = (
                absolute(source) if isinstance(source, str) else [absolute(s) for s in source]
            )
    return RunConfig.model_validate(tree)


def dump_config(config: RunConfig) -> str:
    """YAML that reads back to an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
