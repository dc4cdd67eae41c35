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
    str | None, typer.Option("--model", help="Where the run's model lies by now, if it was moved; the same content.")
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run code that these files name: plug-ins, factories, a model's own, programs."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Pick = Annotated[
    str | None,
    typer.Option(
        "--pick",
        help="best | knee (by default) | smallest | dense | max-under:params=60% | min:kl | weights:kl=.7,params=.3",
    ),
]


def say(text: object, err: bool = False) -> None:
    """Print one line on stdout (or stderr), whatever is in it."""
    print(printable(str(text), MAX_LINE_CHARACTERS), file=sys.stderr if err else sys.stdout)


def print_json(data: Any) -> None:
    """One JSON document on stdout; numbers that are not finite, which JSON does not have, become null."""
    print(json.dumps(json.loads(json.dumps(data), parse_constant=lambda _: None), indent=1))


def usable(path: Path, option: str) -> Path:
    """Return the path that an option names; raises InputError SS126 if there can be none."""
    from sparsesearch.api.searches import usable_path

    return usable_path(path, option)


def run_path(results: Path, name: str) -> Path:
    """Return the directory of a run in `--results`; raises InputError SS126 if no directory can have the name."""
    from sparsesearch.api.searches import run_path as path_of

    return path_of(results, name)


def choose(results: RunResults, candidate: str | None, pick: str | None) -> Evaluation:
    """The candidate that a user named by the start of its id or by a rule, the knee by default."""
    if candidate is not None and pick is not None:
        raise problem("SS501", f"both {candidate!r} and --pick {pick!r} were given.", fix="Give one of them.")
    if candidate == "":
        raise problem("SS501", "the candidate's id is empty.", fix="Give the start of one, or --pick.")
    return results.pick("knee" if pick is None else pick) if candidate is None else results.find(candidate)


def whole(text: str) -> int | None:
    """A number written in at most 15 ASCII digits; None for anything else."""
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None


def split(text: str, what: str) -> list[str]:
    """The parts of `a,b,c` that `--what` was given; raises InputError SS101 where there are none."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise problem("SS101", f"--{what} {printable(text, 80)!r} names nothing.", fix="Put commas between.")
    return found


def recipe_changes(
    model: str | None,
    limit: list[str] | None,
    calibration: str | None,
    selection: str | None,
    set_: list[str] | None,
) -> dict[str, Any]:
    """Overrides of a recipe by these options; what `--set` says of a key is the last word."""
    from sparsesearch.config import parse_assignment

    own = set_if_given(
        model__id=model, limits=limit or None, data__calibration__source=calibration, data__selection__source=selection
    )
    return own | dict(parse_assignment(text) for text in set_ or [])


def set_if_given(**values: Any) -> dict[str, Any]:
    """Overrides of configuration keys, `__` for dots, for the options that the user gave."""
    return {key.replace("__", "."): value for key, value in values.items() if value is not None}
