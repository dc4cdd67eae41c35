"""Options that several verbs share."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run directory.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Pick = Annotated[
    str | None,
    typer.Option("--pick", help="knee | min:kl | max-under:params=60% | weights:kl=.7,params=.3"),
]


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    json.dump(data, sys.stdout, indent=1)
    print()


def set_if_given(**values: Any) -> dict[str, Any]:
    """Overrides of configuration keys, `__` for dots, for the options that the user gave."""
    return {key.replace("__", "."): value for key, value in values.items() if value is not None}
