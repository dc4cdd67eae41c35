"""`sparsesearch list`: names that recipes and options take, with their meanings."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.cli.options import Json, print_json, say
from sparsesearch.errors import MAX_LINE_CHARACTERS, problem
from sparsesearch.registry import summary_of


def _searchers() -> dict[str, str]:
    from sparsesearch.searchers.registry import SEARCHERS

    def options(cls: Any) -> str:
        fields = cls.Options.model_fields.items()
        return ", ".join(f"{name}={field.default}" for name, field in fields)

    return {name: f"{summary_of(cls)} Options: {options(cls)}." for name, cls in SEARCHERS.items()}


def _pruners() -> dict[str, str]:
    from sparsesearch.pruning import EXPERTS, STRUCTURED, UNSTRUCTURED

    def kinds(functions: dict[str, Any], key: str) -> dict[str, str]:
        return {f"{key}: {name}": summary_of(function) for name, function in functions.items()}

    unstructured = kinds({name: pruner.prune for name, pruner in UNSTRUCTURED.items()}, "pruners.sparsity")
    structured = kinds({name: pruner.prune for name, pruner in STRUCTURED.items()}, "pruners.width")
    return unstructured | structured | kinds(dict(EXPERTS), "pruners.experts")


def _families() -> dict[str, str]:
    from sparsesearch.models import FAMILIES
    from sparsesearch.models.family import TRACED

    traced = dict.fromkeys(TRACED, "Convolutional network, whose channel groups are found by tracing.")
    return {name: summary_of(family.describe) for name, family in FAMILIES.items()} | traced


def _forms() -> dict[str, str]:
    from sparsesearch.export import FORMS

    return {name: form.about for name, form in FORMS.items()}


def _spaces() -> dict[str, str]:
    recipes = sorted(Path("search_spaces").glob("*.yaml"))
    if not recipes:
        raise problem(
            "SS100",
            "list spaces: there is no search_spaces/*.yaml here.",
            fix="Run it in a clone of sparsesearch, or write a recipe: sparsesearch space init --out mine.yaml.",
        )
    return {str(path): path.read_text().splitlines()[0].lstrip("# ") for path in recipes}


def _allocations() -> dict[str, str]:
    from sparsesearch.allocation import ALLOCATIONS

    return {name: summary_of(rule.densities) for name, rule in ALLOCATIONS.items()}


def _supernets() -> dict[str, str]:
    from sparsesearch.config import SUPERNETS

    return {str(kind): text for kind, text in SUPERNETS.items()}


def _proxies() -> dict[str, str]:
    from sparsesearch.proxies import all_proxies

    return {name: f"reads {p.reads}: {p.summary}" for name, p in all_proxies().items()}


_LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "searchers": _searchers,
    "pruners": _pruners,
    "allocations": _allocations,
    "proxies": _proxies,
    "supernets": _supernets,
    "families": _families,
    "forms": _forms,
    "spaces": _spaces,
}


def list_(
    what: Annotated[
        str, typer.Argument(metavar="|".join(_LISTS), help="Kind of names; spaces are the recipes in search_spaces/.")
    ],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A searcher, to show its options.")] = None,
    json_: Json = False,
) -> None:
    """List names: searchers and their options, pruners, allocations, proxies, supernets, families, forms and spaces
    (recipes).
    """
    from sparsesearch.errors import printable
    from sparsesearch.plugins import load_plugins

    if what not in _LISTS:
        raise problem("SS102", f"list {printable(what, 80)!r} is unknown.", got=what, allowed=_LISTS)
    load_plugins()
    if name is not None:
        if what != "searchers":
            raise problem("SS101", f"list {what} {printable(name, 80)!r}: only searchers have options.")
        _print_searcher(name, json_)
        return
    entries = _LISTS[what]()
    if json_:
        print_json(entries)
        return
    if what == "searchers":
        _print_entries(_summaries())
        say("Options of a searcher: sparsesearch list searchers NAME")
    else:
        _print_entries(entries)


def _summaries() -> dict[str, str]:
    """Return summaries of searchers without their options; allocation searchers share one entry."""
    from sparsesearch.searchers.registry import ALLOCATION, SEARCHERS

    entries: dict[str, str] = {}
    for name, cls in SEARCHERS.items():
        if name.startswith(ALLOCATION):
            entries[f"{ALLOCATION}NAME"] = f"{summary_of(cls)} Names: sparsesearch list allocations."
        else:
            entries[name] = summary_of(cls)
    return entries


def _print_entries(entries: dict[str, str]) -> None:
    """Print names and texts in two columns, wrapped to the width of a terminal."""
    indent = max(map(len, entries), default=0) + 2
    # Without a terminal lines are not wrapped, so that other programs can read them.
    columns = shutil.get_terminal_size((MAX_LINE_CHARACTERS, 1)).columns
    for name, text in entries.items():
        lines = textwrap.wrap(text, max(columns - indent, 20), break_on_hyphens=False) or [""]
        for number, line in enumerate(lines):
            say(f"{'' if number else name:<{indent}}{line}")


def _print_searcher(name: str, as_json: bool) -> None:
    """Print the options of a searcher with their types, defaults and meanings; raises InputError SS102."""
    from rich.table import Table

    from sparsesearch.config.key_table import keys_of
    from sparsesearch.errors import printable
    from sparsesearch.media import Terminal
    from sparsesearch.searchers.registry import SEARCHERS

    if name not in SEARCHERS:
        raise problem("SS102", f"searcher {printable(name, 80)!r} not found.", got=name, allowed=SEARCHERS)
    summary, keys = summary_of(SEARCHERS[name]), keys_of(SEARCHERS[name].Options)
    if as_json:
        options = {key.name: {"type": key.type, "default": key.default, "meaning": key.meaning} for key in keys}
        print_json({"name": name, "summary": summary, "options": options})
        return
    say(f"{name}: {summary}")
    if not keys:
        say("It has no options.")
        return
    say("In a recipe: search.options. On the command line: --set search.options.OPTION=VALUE.")
    table = Table("option", "default", "type")
    table.add_column("meaning", min_width=44)
    for key in keys:
        table.add_row(key.name, key.default, key.type.replace("`", ""), key.meaning.replace("`", ""))
    Terminal().print(table)
