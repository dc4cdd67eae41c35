"""`sparsesearch list`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.cli.options import Json, print_json, say
from sparsesearch.errors import problem


def _first_line(thing: Any) -> str:
    return next(iter((thing.__doc__ or "").strip().splitlines()), "")


def _searchers() -> dict[str, str]:
    from sparsesearch.searchers.registry import SEARCHERS

    def options(cls: Any) -> str:
        fields = cls.Options.model_fields.items()
        return ", ".join(f"{name}={field.default}" for name, field in fields)

    return {name: f"{_first_line(cls)} Options: {options(cls)}." for name, cls in SEARCHERS.items()}


def _pruners() -> dict[str, str]:
    from sparsesearch.pruning import EXPERTS, STRUCTURED, UNSTRUCTURED

    def kinds(functions: dict[str, Any], key: str) -> dict[str, str]:
        return {f"{key}: {name}": _first_line(function) for name, function in functions.items()}

    unstructured = kinds({name: pruner.prune for name, pruner in UNSTRUCTURED.items()}, "pruners.sparsity")
    structured = kinds({name: pruner.prune for name, pruner in STRUCTURED.items()}, "pruners.width")
    return unstructured | structured | kinds(dict(EXPERTS), "pruners.experts")


def _families() -> dict[str, str]:
    from sparsesearch.models import FAMILIES

    return {name: _first_line(family.describe) for name, family in FAMILIES.items()}


def _forms() -> dict[str, str]:
    from sparsesearch.export import FORMS

    return {name: form.about for name, form in FORMS.items()}


def _spaces() -> dict[str, str]:
    return {str(p): p.read_text().splitlines()[0].lstrip("# ") for p in sorted(Path("search_spaces").glob("*.yaml"))}


def _allocations() -> dict[str, str]:
    from sparsesearch.allocation import ALLOCATIONS

    return {name: _first_line(rule.densities) for name, rule in ALLOCATIONS.items()}


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
    what: Annotated[str, typer.Argument(metavar="|".join(_LISTS))],
    json_: Json = False,
) -> None:
    """List what can be chosen: searchers, pruners, supernets, model families, export forms, shipped recipes."""
    from sparsesearch.errors import printable
    from sparsesearch.plugins import load_plugins

    if what not in _LISTS:
        raise problem("SS102", f"list {printable(what, 80)!r}.", got=what, allowed=_LISTS)
    load_plugins()
    found = _LISTS[what]()
    if json_:
        print_json(found)
        return
    width = max(map(len, found), default=0)
    for name, text in found.items():
        say(f"{name:<{width}}  {text}")
