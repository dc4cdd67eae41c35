"""Reference of recipes, generated from the models that read them: a JSON schema, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, PydanticUserError

from sparsesearch.config import RunConfig, SearchConfig
from sparsesearch.config.key_table import keys_of, markdown_keys, markdown_table, sections_of
from sparsesearch.searchers.base import Searcher
from sparsesearch.searchers.registry import SEARCHERS
from sparsesearch.space import KINDS

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES = (
    "A *fraction* is a number in [0, 1], or a percentage such as `95%`. `N` in a key is the number of an item of a "
    "list, from 0, as in `--set units.0.levels=4`."
)


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe, in which the searcher's name decides about the keys of `search.options`."""
    schema = RunConfig.model_json_schema() | {"title": "Recipe of sparsesearch"}
    search = schema["$defs"]["SearchConfig"]
    search["properties"]["searcher"]["examples"] = list(SEARCHERS)
    search["allOf"] = []
    for cls, names in _names_by_options(SEARCHERS).items():
        options = _options_schema(cls)
        if options is not None:
            condition: dict[str, Any] = {"properties": {"searcher": {"enum": names}}}
            if SearchConfig.model_fields["searcher"].default not in names:
                condition["required"] = ["searcher"]
            search["allOf"].append({"if": condition, "then": {"properties": {"options": options}}})
    return {"$schema": _DIALECT, **schema}


def recipe_tables() -> str:
    """Return Markdown tables of all keys of a recipe, and of the options of the searchers of this package."""
    return f"## All keys of a recipe\n\n{_TYPES}\n\n{_keys()}\n\n## Options of the searchers\n\n{_options()}\n"


def _options_schema(options: type[BaseModel]) -> dict[str, Any] | None:
    """The schema of a searcher's options, without definitions; None if a plug-in's options have none."""
    try:
        schema = options.model_json_schema()
    except PydanticUserError:
        return None
    return None if "$defs" in schema else schema | {"title": "Options"}


def _names_by_options(searchers: Mapping[str, type[Searcher]]) -> dict[type[Searcher.Options], list[str]]:
    names: dict[type[Searcher.Options], list[str]] = {}
    for name, searcher in searchers.items():
        names.setdefault(searcher.Options, []).append(name)
    return names


def _keys() -> str:
    parts = []
    for section in sections_of(RunConfig):
        path, *others = section.paths
        parts.append(f"### {f'`{path}`' if path else 'Top level'}")
        intro = (section.model.__doc__ or "").replace("\n    ", "\n").strip()
        other_places = f"The same keys are in {_join_names(others)}." if others else ""
        parts += [text for text in (intro, other_places, markdown_keys(section.keys)) if text]
        if path == "units.N":
            rows = [(f"`{kind}`", meaning) for kind, meaning in KINDS.items()]
            parts.append(markdown_table(["kind", "one unit, and its levels"], rows))
    return "\n\n".join(parts)


def _options() -> str:
    """A table of each class of options, which names only what differs from the class that it extends."""
    built_in = {name: cls for name, cls in SEARCHERS.items() if cls.__module__.startswith(f"{__package__}.")}
    names = _names_by_options(built_in)
    lineage = [cls for options in names for cls in reversed(options.__mro__) if issubclass(cls, Searcher.Options)]
    return "\n\n".join(_section(cls, names) for cls in dict.fromkeys(lineage) if cls is not Searcher.Options)


def _section(options: type[Searcher.Options], names: dict[type[Searcher.Options], list[str]]) -> str:
    base, keys = options.__mro__[1], keys_of(options)
    if options in names:
        parts = [f"### {_join_names(names[options])}"]
    else:
        parts = [
            "### Common to "
            + _join_names([n for cls, group in names.items() if issubclass(cls, options) for n in group])
        ]
    inherited = {key.name: key for key in keys_of(base)}
    table, defaults = [], []
    for key in keys:
        base_key = inherited.get(key.name)
        if base_key is None or (key.type, key.meaning) != (base_key.type, base_key.meaning):
            table.append(key)
        elif key.default != base_key.default:
            defaults.append(f"`{key.name}: {key.default}`")
    if inherited:
        origin = _join_names(names[base]) if base in names else "the common options above"
        exceptions = f", but with the defaults {', '.join(defaults)}" if defaults else ""
        parts.append(f"As {origin}{exceptions}{'; keys that are added or changed:' if table else '.'}")
    return "\n\n".join([*parts, *([markdown_keys(table)] if table else [])])


def _join_names(names: list[str]) -> str:
    """Names in backticks; those with a prefix become one, `PREFIX:NAME`."""
    short = [f"{name.partition(':')[0]}:NAME" if ":" in name else name for name in names]
    return ", ".join(f"`{name}`" for name in dict.fromkeys(short))
