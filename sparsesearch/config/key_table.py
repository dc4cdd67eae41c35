"""Tables of a configuration's keys with their types, defaults and meanings, read from its models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel, PydanticUserError
from pydantic.fields import FieldInfo

from sparsesearch.config.base import FRACTION_SCHEMA, MANY

# Name of a value that is a group of keys itself.
GROUP = "group of keys"
# Default of a key that has none.
REQUIRED = "required"
_TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "object": "mapping"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


class Key(NamedTuple):
    """A key of a configuration.

    Attributes:
        name: dotted path, as `--set` takes it; N stands for the number of an item of a list.
        type: type and bounds of the value.
        default: the default in YAML, or `required`.
        meaning: the description of the field.
    """

    name: str
    type: str
    default: str
    meaning: str


class Section(NamedTuple):
    """The keys of one model of a configuration.

    Attributes:
        paths: every place of the model in the tree, the shortest first, by which `keys` are named; '' is the root.
    """

    model: type[BaseModel]
    paths: tuple[str, ...]
    keys: tuple[Key, ...]


def keys_of(model: type[BaseModel], path: str = "") -> tuple[Key, ...]:
    """Return the keys of a model at a path of the tree, in order, without those of the models inside it."""
    try:
        schemas = model.model_json_schema()["properties"]
    except (PydanticUserError, KeyError):  # a plug-in's types without a schema, or no keys
        schemas = {}
    return tuple(
        Key(_joined(path, name), _type(schemas.get(name, {})), _default(field), field.description or "")
        for name, field in model.model_fields.items()
    )


def sections_of(root: type[BaseModel]) -> list[Section]:
    """Return a section for each model in the tree of a configuration, in the order of their shortest paths' keys."""
    places: dict[type[BaseModel], list[tuple[str, tuple[int, ...]]]] = {}
    level = [(root, "", ())]
    while level:  # level by level, so that the first place of a model is its shortest path
        following: list[Any] = []
        for model, path, order in level:
            if model not in places:
                for number, (name, field) in enumerate(model.model_fields.items()):
                    for below, suffix in _models(field.annotation):
                        following.append((below, _joined(path, name) + suffix, (*order, number)))
            places.setdefault(model, []).append((path, order))
        level = following
    ordered = sorted(places.items(), key=lambda item: item[1][0][1])
    return [Section(model, tuple(path for path, _ in spots), keys_of(model, spots[0][0])) for model, spots in ordered]


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown cells; `|` inside them is escaped."""
    cells = [[cell.replace("|", r"\|") for cell in line] for line in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def markdown_keys(keys: Sequence[Key]) -> str:
    """Return a Markdown table of keys."""

    def default(key: Key) -> str:
        return key.default if key.default in ("", REQUIRED) else f"`{key.default}`"

    rows = [(f"`{key.name}`", key.type, default(key), key.meaning) for key in keys]
    return markdown_table(["key", "type", "default", "meaning"], rows)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _models(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Models in a type, each with `.N` for every list around it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, suffix
    for argument in get_args(annotation):
        yield from _models(argument, f"{suffix}.N" if get_origin(annotation) is list else suffix)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return REQUIRED
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
        if not value:  # the defaults of its own keys
            return ""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _type(schema: dict[str, Any]) -> str:
    """Return the type that a JSON schema describes, in words."""
    *others, last = _alternatives(schema)
    return f"{', '.join(others)} or {last}" if others else last


def _alternatives(schema: dict[str, Any]) -> list[str]:
    if schema.get("anyOf") == FRACTION_SCHEMA["anyOf"]:
        return ["fraction"]
    if members := schema.get("anyOf") or schema.get("allOf"):
        return [text for member in members for text in _alternatives(member)]
    if "$ref" in schema:
        return [GROUP]
    if "const" in schema or "enum" in schema:
        return [f"`{value}`" for value in schema.get("enum", [schema.get("const")])]
    if schema.get("type") == "array":
        count = f"{schema['minItems']} " if schema.get("minItems") == schema.get("maxItems", -1) else ""
        plural = re.sub(r"^\w+", r"\g<0>s", _type(schema.get("items", {})))
        return [f"list of {count}{plural}"]
    kind = schema.get("type", "")
    return [f"{_TYPES.get(kind, kind)} {_range(schema)}".strip()]


def _range(schema: dict[str, Any]) -> str:
    # Larger bounds only protect from overflow and absurd sizes.
    bounds = {sign: f"{schema[name]:g}" for name, sign in _BOUNDS.items() if abs(schema.get(name, MANY)) < MANY}
    if set(bounds) == {"≥", "≤"}:
        return f"{bounds['≥']} to {bounds['≤']}"
    return " and ".join(f"{sign} {bound}" for sign, bound in bounds.items())
