"""Schemas of the files of a run. Types and ranges are checked at every read, since files may come from anyone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sparsesearch.errors import DamagedFile, InputError, first_line
from sparsesearch.searchers.records import Evaluation, Role
from sparsesearch.space import Space

Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Fingerprint(TypedDict):
    searcher: str
    weights: str


class Info(TypedDict):
    """`run.json`."""

    fingerprint: Fingerprint
    objectives: Annotated[list[str], Field(min_length=1)]
    selection_sequences: Count
    length: Count
    model: str
    task: str
    versions: dict[str, Any]
    blocks: Count
    lines: NotRequired[dict[str, Count]]
    reference: NotRequired[list[Number]]
    search_evaluations: NotRequired[Count]
    kind: NotRequired[Literal["search", "audit"]]


class Phase(TypedDict):
    """A line of `ledger.jsonl`."""

    phase: str
    seconds: Number
    tokens: Count
    count: Count
    device_seconds: NotRequired[Number]


class Export(TypedDict):
    """A line of `exports.jsonl`."""

    id: str
    form: str
    out: str
    verified: list[str]
    when: str


class Failure(TypedDict):
    """A line of `failures.jsonl`."""

    id: str
    error: str
    traceback: str


class Row(TypedDict):
    """A unit of `space.json`."""

    module: str
    kind: str
    block: Annotated[Count, Field(lt=10_000)]
    total: Annotated[Count, Field(gt=0)]
    levels: tuple[Count, ...]


class Measured(TypedDict):
    """An evaluation of `archive.jsonl` or `trained.jsonl`."""

    sequences: Count
    draw: int
    known: Count
    trained: Count
    origin: str
    status: Literal["ok", "invalid", "failed"]
    quality: float
    costs: dict[str, Count]
    error: str
    parents: tuple[str, ...]
    role: Role


# Lines of `generations.jsonl`: `generation`, `evaluations`, `tokens`, and numbers that the searcher reports.
Generation = dict[str, Number]

_INFO, _MEASURED, _UNITS = TypeAdapter(Info), TypeAdapter(Measured), TypeAdapter(list[Row])
_COSTS, _LIMITS = TypeAdapter(dict[str, Count]), TypeAdapter(list[Number])
_LINES: dict[str, TypeAdapter[Any]] = {
    "ledger.jsonl": TypeAdapter(list[Phase]),
    "exports.jsonl": TypeAdapter(list[Export]),
    "generations.jsonl": TypeAdapter(list[Generation]),
    "failures.jsonl": TypeAdapter(list[Failure]),
}


@contextmanager
def sound(path: Path, hint: str = "") -> Iterator[None]:
    """Turn errors of wrong types, wrong values and invalid input in the block into DamagedFile SS601 of a file."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DamagedFile(path, f"{place}: {first['msg']}, got {first['input']!r:.80}", hint) from None
    except InputError as error:
        raise DamagedFile(path, error.message.rstrip("."), hint) from None
    except KeyError as error:
        raise DamagedFile(path, f"{first_line(error)} is missing", hint) from None
    except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
        raise DamagedFile(path, first_line(error), hint) from None


def check_info(path: Path, info: dict[str, Any], hint: str) -> None:
    """Raise DamagedFile SS601 if something is missing from `run.json`, or of another type."""
    with sound(path, hint):
        _INFO.validate_python(info, strict=True)
        if len(info.get("reference", info["objectives"])) != len(info["objectives"]):
            raise ValueError("reference: expected one number for each objective")


def check_space(path: Path, space: Space, objectives: list[str], hint: str) -> None:
    """Raise DamagedFile SS601 if a space has numbers out of range, or lacks a cost that is an objective."""
    with sound(path, hint):
        _UNITS.validate_python([vars(unit) for unit in space.units], strict=True)
        _LIMITS.validate_python([bound.maximum for bound in space.bounds], strict=True)
        dense = _COSTS.validate_python(space.dense_costs, strict=True)
        if missing := sorted(set(objectives[1:]) - dense.keys()):
            raise ValueError(f"it has no cost {missing[0]!r}, which is an objective")


def check_evaluations(path: Path, evaluations: Iterable[Evaluation], space: Space, objectives: list[str]) -> None:
    """Raise DamagedFile SS601 for numbers out of range, and for missing costs and qualities."""
    needed, costs = {"params", "nonzeros", *objectives[1:]}, space.dense_costs.keys()
    with sound(path):
        for evaluation in evaluations:
            _MEASURED.validate_python(vars(evaluation), strict=True)
            if evaluation.status == "ok" and not needed <= evaluation.costs.keys() <= costs:
                raise ValueError(f"costs of {evaluation.genome.id} are {', '.join(sorted(evaluation.costs))}")
            if evaluation.status == "ok" and evaluation.quality != evaluation.quality:
                raise ValueError(f"candidate {evaluation.genome.id} is ok and has no quality")


def check_lines(path: Path, lines: list[dict[str, Any]], hint: str) -> None:
    """Raise DamagedFile SS601 if lines of the ledger, generations, exports or failures do not fit their schema."""
    with sound(path, hint):
        _LINES[path.name].validate_python(lines, strict=True)
        if path.name == "generations.jsonl" and any(not {"generation", "evaluations"} <= line.keys() for line in lines):
            raise ValueError("a line without generation or evaluations")
