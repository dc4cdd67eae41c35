"""Options that several verbs share."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesearch.errors import MAX_LINE_CHARACTERS, printable, problem

if TYPE_CHECKING:
    from sparsesearch.runs.results import RunResults
    from sparsesearch.searchers import Evaluation

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run directory.")]
MovedModel = Annotated[
    str | None,
    typer.Option("--model", help="Directory of the run's model, if it was moved; its content must be the same."),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run code that these files name: plug-ins, factories, code of models, programs."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Pick = Annotated[
    str | None,
    typer.Option(
        "--pick",
        help="Rule: best | knee | smallest | dense | max-under:params=60% | min:kl | weights:kl=.7,params=.3 (default: "
        "knee).",
    ),
]
# Of recipes:
RecipeModel = Annotated[
    str | None, typer.Option("--model", help="Model: demo, a model directory, or a hub id (default: the recipe's).")
]
Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", help="Limit such as 'params<=60%'; replaces the recipe's limits; repeatable."),
]
CalibrationSource = Annotated[
    str | None,
    typer.Option("--calibration", help="Calibration data: a file, a folder or a data set (default: the recipe's)."),
]
SelectionSource = Annotated[
    str | None,
    typer.Option("--selection", help="Selection data: a file, a folder or a data set (default: the recipe's)."),
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Set any key of the recipe; repeatable.")
]


def say(text: object, err: bool = False) -> None:
    """Print one line on stdout (or stderr), with characters that cannot be printed escaped."""
    print(printable(str(text), MAX_LINE_CHARACTERS), file=sys.stderr if err else sys.stdout)


def print_json(data: Any) -> None:
    """Print one JSON document on stdout; numbers that are not finite, which JSON does not have, become null."""
    print(json.dumps(json.loads(json.dumps(data), parse_constant=lambda _: None), indent=1))


def usable(path: Path, option: str) -> Path:
    """Return the path that an option names; raises InputError SS126 if no file can have it."""
    from sparsesearch.api.paths import usable_path

    return usable_path(path, option)


def run_path(results: Path, name: str) -> Path:
    """Return the directory of a run in `--results`; raises InputError SS126 if no directory can have the name."""
    from sparsesearch.api.paths import run_path as path_of

    return path_of(results, name)


def choose(results: RunResults, candidate: str | None, pick: str | None) -> Evaluation:
    """Return the candidate that a user named by the start of its id or by a rule (default: knee).

    Raises InputError SS501 for both, or for an unknown one.
    """
    if candidate is not None and pick is not None:
        raise problem("SS501", f"both {candidate!r} and --pick {pick!r} were given.", fix="Give one of them.")
    if candidate == "":
        raise problem("SS501", "the candidate's id is empty.", fix="Give the start of an id, or --pick.")
    return results.pick("knee" if pick is None else pick) if candidate is None else results.find(candidate)


def whole(text: str) -> int | None:
    """Return the number that at most 15 ASCII digits write; None for other texts."""
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None


def split(text: str, option: str) -> list[str]:
    """Return the parts of the value `a,b,c` of an option; raises InputError SS101 if there are none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise problem("SS101", f"--{option} {printable(text, 80)!r} has no values.", fix="Separate values by commas.")
    return parts


def recipe_changes(
    model: str | None,
    limit: list[str] | None,
    calibration: str | None,
    selection: str | None,
    set_: list[str] | None,
) -> dict[str, Any]:
    """Return overrides of a recipe by these options; those of `--set` come last."""
    from sparsesearch.config import parse_assignment

    changes = set_if_given(
        model__id=model, limits=limit or None, data__calibration__source=calibration, data__selection__source=selection
    )
    return changes | dict(parse_assignment(text) for text in set_ or [])


def set_if_given(**values: Any) -> dict[str, Any]:
    """Return overrides of configuration keys, written with `__` for dots, without those that are None."""
    return {key.replace("__", "."): value for key, value in values.items() if value is not None}
