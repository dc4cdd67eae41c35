"""Reading and writing of recipes as YAML; the first problem becomes an error in one line, with its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from sparsesearch.config.data import PYTHON_SOURCE
from sparsesearch.config.document import Lines, UnreadableError, parse, read_text
from sparsesearch.config.tree import RunConfig
from sparsesearch.errors import SparseSearchError, printable, problem
from sparsesearch.space.unit import KINDS

_INDEX = re.compile("[0-9]{1,9}")


def load_config(path: Path, overrides: dict[str, Any] | None = None) -> RunConfig:
    """Read a recipe and apply `{"key.path": value}` overrides; raises InputError SS100, SS101 or SS105."""
    try:
        text = read_text(path)
    except UnreadableError as error:
        shown = printable(str(path), 400)
        raise problem("SS100", f"cannot read {shown}: {error}.", fix="Recipes are in search_spaces/.") from None
    try:
        tree, lines = parse(text)
    except UnreadableError as error:
        raise problem("SS100", f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise problem("SS100", f"{path}: a recipe is a mapping of keys to values, got {type(tree).__name__}.")
    for key, value in (overrides or {}).items():
        if isinstance(tree.get("supernet"), str):  # so that further keys can be set
            tree["supernet"] = {"kind": tree["supernet"]}
        if key == "supernet" and isinstance(value, str) and isinstance(tree.get(key), dict):
            key = "supernet.kind"  # its other keys stay as they are
        override(tree, key, value)
        # A value that an option sets has no line in the file.
        place = tuple(int(k) if _INDEX.fullmatch(k) else k for k in key.split("."))
        lines = {other: line for other, line in lines.items() if other[: len(place)] != place}
        lines[place] = 0
    return validate(tree, str(path), lines)


def validate(tree: dict[str, Any], where: str, lines: Lines | None = None) -> RunConfig:
    """Build a RunConfig from plain data; raises InputError SS101, SS102 or SS105 with the first problem.

    Args:
        where: the recipe's name in messages.
        lines: lines of its keys; 0 for those that options set.
    """
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        problems = error.errors()
        place = _place(problems[0], tree)
        # A value that may be of several types fails as each of them; the failure deepest in the tree is explained.
        alternatives = [p for p in problems if _place(p, tree)[: len(place)] == place]
        deepest = max(alternatives, key=lambda p: len(p["loc"]))
        raise _explain(deepest, _place(deepest, tree), where, lines or {}) from None


def _explain(fault: Any, path: tuple[Any, ...], where: str, lines: Lines) -> SparseSearchError:
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    place = f"{where}:{line}" if line else "option" if line == 0 else where
    dotted = printable("".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip("."), 200)
    if fault["type"] == "extra_forbidden":
        allowed = _fields_at(path[:-1])
        return problem(
            "SS101",
            f"{place} {dotted}: unknown key.",
            got=str(path[-1]),
            allowed=allowed,
        )
    message = fault["msg"].removeprefix("Value error, ")
    if path[-1:] == ("kind",) and len(path) == 3:
        return problem(
            "SS102",
            f"{place} {dotted}: {printable(repr(fault['input']), 120)} is no kind of unit.",
            got=str(fault["input"]),
            allowed=KINDS,
        )
    code = "SS105" if "outside [0, 1]" in message else "SS101"
    got = "" if code == "SS105" or fault["type"] == "missing" else f", got {printable(repr(fault['input']), 120)}"
    return problem(code, f"{place} {dotted}: {message}{got}")


def _place(fault: Any, tree: Any) -> tuple[Any, ...]:
    """Return the place of a problem in the tree, without the tags that pydantic adds for members of a union."""
    path: list[Any] = []
    for part in fault["loc"]:
        if isinstance(tree, dict) and (part in tree or (fault["type"] == "missing" and part == fault["loc"][-1])):
            tree = tree.get(part)
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            tree = tree[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _fields_at(path: tuple[Any, ...]) -> list[str]:
    """Return the keys that are allowed at a place of the tree, by walking the model classes."""
    cls: type[BaseModel] = RunConfig
    for part in path:
        if isinstance(part, str):
            cls = _nested_model(cls.model_fields[part].annotation) or cls
    return list(cls.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for arg in get_args(annotation) if (model := _nested_model(arg))), None)


def override(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set `key.path` in a recipe's plain data; raises InputError SS101 if there is no such place."""
    *parents, last = key.split(".")
    place: Any = tree
    try:
        for parent in parents:
            if isinstance(place, list):
                place = place[_index(parent)]
            else:
                place[parent] = {} if place.get(parent) is None else place[parent]
                place = place[parent]
        if isinstance(place, list):
            place[_index(last)] = value
        elif isinstance(place, dict):
            place[last] = value
        else:
            raise TypeError(type(place).__name__)
    except (AttributeError, IndexError, TypeError, ValueError):
        raise problem(
            "SS101",
            f"cannot set {printable(key, 120)}: the recipe has no group of keys there.",
            fix="Items of a list go by number, as units.0.levels.",
        ) from None


def _index(text: str) -> int:
    """Return an index as `--set` takes it, digits alone; raises ValueError for any other text."""
    if not _INDEX.fullmatch(text):
        raise ValueError(text)
    return int(text)


def parse_assignment(text: str) -> tuple[str, Any]:
    """Return key and value of `key.path=value` with a YAML value, as `--set` takes it; raises InputError SS101."""
    key, sign, value = text.partition("=")
    key = key.strip()
    if not sign or not all(part.isprintable() and part.strip() for part in key.split(".")):
        raise problem("SS101", f"{printable(text, 120)!r} is not of the form key.path=value.")
    if "[" in key:
        raise problem(
            "SS101",
            f"--set {printable(key, 120)!r}: items of a list go by number between dots.",
            fix="As units.0.levels=4.",
        )
    try:
        return key, parse(value)[0]
    except UnreadableError as error:
        raise problem("SS101", f"--set {printable(key, 120)}: {error}") from None


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with existing relative paths made absolute, so that it works from any directory."""

    def absolute(text: str) -> str:
        path = Path(text).expanduser()
        return str(path.resolve()) if text != PYTHON_SOURCE and path.exists() else text

    tree = config.model_dump()
    if config.model.id != "demo":
        tree["model"]["id"] = absolute(config.model.id)
    if config.model.teacher not in (None, "demo"):
        tree["model"]["teacher"] = absolute(config.model.teacher)
    if config.model.weights is not None:
        tree["model"]["weights"] = absolute(config.model.weights)
    tree["plugins"] = [absolute(name) if name.endswith(".py") else name for name in config.plugins]
    if config.latency.table is not None:
        tree["latency"]["table"] = absolute(config.latency.table)
    if config.refines is not None:
        tree["refines"] = absolute(config.refines)
    if config.supernet.start is not None:
        tree["supernet"]["start"] = absolute(config.supernet.start)
    # With a slash it is a run, else the name of a rule.
    tree["search"]["seeds"] = [absolute(seed) if "/" in seed else seed for seed in config.search.seeds]
    for role in ("calibration", "selection", "training", "test"):
        if tree["data"][role] is not None:
            source = tree["data"][role]["source"]
            tree["data"][role]["source"] = (
                absolute(source) if isinstance(source, str) else [absolute(s) for s in source]
            )
    return RunConfig.model_validate(tree)


def dump_config(config: RunConfig) -> str:
    """Return YAML that reads back to an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
