"""A run as reports read it: its files may be somebody else's, so types and ranges of all that they hold are checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sparsesearch.engine.results import RunResults
from sparsesearch.errors import DamagedFile, first_line
from sparsesearch.files import read_json
from sparsesearch.searchers import Evaluation

Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[Number, Field(ge=-1, le=1)]
T = TypeVar("T")


class Info(TypedDict):
    fingerprint: dict[str, Any]
    objectives: Annotated[list[str], Field(min_length=1)]
    selection_sequences: Count
    length: Count
    model: str
    task: str
    versions: dict[str, Any]
    blocks: Count
    reference: NotRequired[list[Number]]
    search_evaluations: NotRequired[Count]
    kind: NotRequired[str]


class Phase(TypedDict):
    phase: str
    seconds: Number
    tokens: Count
    count: Count
    device_seconds: NotRequired[Number]


class Export(TypedDict):
    id: str
    form: str
    out: str
    verified: list[str]
    when: str


class Screened(TypedDict):
    proxy: str
    tau: Share
    tau_range: Annotated[list[Share], Field(min_length=2, max_length=2)]
    candidates: Count


class Timed(TypedDict):
    measured_ns: Annotated[Number, Field(gt=0)]
    measured_bytes: Number
    predicted_ns: NotRequired[Annotated[Number, Field(gt=0)]]
    predicted_bytes: NotRequired[Number]


class Request(TypedDict):
    device: str
    hardware: str
    batch: Count
    prompt: Count
    generated: Count
    dtype: str
    threads: Count


class Progress(TypedDict):
    state: Literal["running", "finished", "interrupted", "failed"]
    phase: str
    phase_began: Number
    done: Count
    total: Count | None
    first: Count | None
    first_at: Number | None
    updated: Number
    error: str


class Proxy(TypedDict):
    tau: Share | None
    tau_range: Annotated[list[Share | None], Field(min_length=2, max_length=2)]
    control: bool
    tau_after: NotRequired[Share | None]
    tau_after_range: NotRequired[Annotated[list[Share | None], Field(min_length=2, max_length=2)]]


class Training(TypedDict):
    tokens: Count


class Audited(TypedDict):
    quality: str
    proxies: dict[str, Proxy]
    training: NotRequired[Training]


class Row(TypedDict):
    module: str
    kind: str
    block: Annotated[Count, Field(lt=10_000)]
    total: Annotated[Count, Field(gt=0)]
    levels: tuple[Count, ...]


class Measured(TypedDict):
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


_INFO, _MEASURED, _PHASES = TypeAdapter(Info), TypeAdapter(Measured), TypeAdapter(list[Phase])
_EXPORTS, _SCREENED, _PROGRESS = TypeAdapter(list[Export]), TypeAdapter(Screened), TypeAdapter(Progress)
_TIMED, _REQUEST, _TESTS = TypeAdapter(dict[str, Timed]), TypeAdapter(Request), TypeAdapter(dict[str, Number])
_UNITS, _COSTS, _LIMITS = TypeAdapter(list[Row]), TypeAdapter(dict[str, Count]), TypeAdapter(list[Number])
_AUDITED, _GENERATIONS = TypeAdapter(Audited), TypeAdapter(list[dict[str, Number]])


def open_results(path: Path) -> RunResults:
    """A run whose files hold what they should; raises InputError SS600, DamagedFile SS601."""
    results = RunResults(path)
    run = results.run
    with sound(run.info):
        info = _INFO.validate_python(results.info, strict=True)
        if not isinstance(info["fingerprint"].get("searcher"), str):
            raise ValueError("fingerprint.searcher: there is none")
    with sound(run.space):
        space = results.space
        _UNITS.validate_python([vars(unit) for unit in space.units], strict=True)
        _LIMITS.validate_python([bound.maximum for bound in space.bounds], strict=True)
        dense = _COSTS.validate_python(space.dense_costs, strict=True)
    with sound(run.info):
        if strange := sorted(set(info["objectives"][1:]) - dense.keys()):
            raise ValueError(f"objectives: the run's space has no cost {strange[0]!r}")
        if len(info.get("reference", info["objectives"])) != len(info["objectives"]):
            raise ValueError("reference: as many numbers as there are objectives are expected")
    _check_evaluations(results, run.archive, results.evaluations)
    _check_evaluations(results, run.trained, [*results.climbed, *results.learned])
    phases(results)
    return results


def _check_evaluations(results: RunResults, file: Path, evaluations: list[Evaluation]) -> None:
    """Raise DamagedFile SS601 for numbers out of range, or costs and qualities that are missing."""
    space, needed = results.space, {"params", "nonzeros", *results.objectives[1:]}
    with sound(file):
        for evaluation in evaluations:
            _MEASURED.validate_python(vars(evaluation), strict=True)
            costs = evaluation.costs.keys()
            if evaluation.status == "ok" and not needed <= costs <= space.dense_costs.keys():
                raise ValueError(f"costs of {evaluation.genome.id} are {', '.join(sorted(costs))}")
            if evaluation.status == "ok" and evaluation.quality != evaluation.quality:
                raise ValueError(f"candidate {evaluation.genome.id} is ok and has no quality")


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Turn what wrong types and values raise into DamagedFile SS601 of a file."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedFile(path, f"{where}: {first['msg']}, got {first['input']!r:.80}") from None
    except KeyError as error:
        raise DamagedFile(path, f"there is no {first_line(error)}") from None
    except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
        raise DamagedFile(path, first_line(error)) from None


def _lines(results: RunResults, path: Path, kind: TypeAdapter[list[T]]) -> list[T]:
    with sound(path):
        return kind.validate_python(results.lines(path), strict=True)


def phases(results: RunResults) -> list[Phase]:
    """Lines of the ledger."""
    return _lines(results, results.run.ledger, _PHASES)


def exports(results: RunResults) -> list[Export]:
    """What was exported."""
    return _lines(results, results.run.exports, _EXPORTS)


def generations(results: RunResults) -> list[dict[str, float]]:
    """What the searcher said of its generations, and at how many `evaluations`."""
    found, path = _lines(results, results.run.generations, _GENERATIONS), results.run.generations
    if any("evaluations" not in line for line in found):
        raise DamagedFile(path, "a line without evaluations")
    return found


def _document(results: RunResults, path: Path, kind: TypeAdapter[T]) -> T | None:
    if not path.exists():
        return None
    with sound(path):
        return kind.validate_python(results.run.read(path), strict=True)


def screened(results: RunResults) -> Screened | None:
    """How a proxy agreed with measurements; None if none was asked."""
    return _document(results, results.run.screen, _SCREENED)


def test_values(results: RunResults) -> dict[str, float]:
    """What was measured on test data, by name there; empty if nothing was."""
    return _document(results, results.run.test, _TESTS) or {}


def progress(results: RunResults) -> Progress | None:
    """What the controller keeps of itself; None for runs of before it did."""
    return _document(results, results.run.progress, _PROGRESS)


def latencies(results: RunResults) -> dict[str, Any]:
    """What finalists took, by candidate id, `dense` and `setting`; empty if nothing was measured."""
    run = results.run
    if not run.latency_measured.exists():
        return {}
    with sound(run.latency_measured):
        found = dict(run.read(run.latency_measured))
        setting = _REQUEST.validate_python(found.pop("setting"), strict=True)
        timed = _TIMED.validate_python(found, strict=True)
        if len({len(each) for each in timed.values()}) != 1 or "dense" not in timed:
            raise ValueError("the same numbers are expected of each candidate, and of dense")
        return {**timed, "setting": setting}


def audited(path: Path) -> Audited:
    """What an `audit.json` says; raises DamagedFile SS601."""
    with sound(path):
        return _AUDITED.validate_python(read_json(path), strict=True)
