"""A run as reports read it: its files may be somebody else's, so what they hold is checked here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sparsesearch.engine.directory import RunDirectory
from sparsesearch.engine.results import RunResults
from sparsesearch.errors import DamagedFile, first_line

Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[Number, Field(ge=-1, le=1)]


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
    run = RunDirectory.open(path)
    with sound(run.info):
        info = _INFO.validate_python(run.read(run.info), strict=True)
        if not isinstance(info["fingerprint"].get("searcher"), str):
            raise ValueError("fingerprint.searcher: there is none")
        results = RunResults(path)
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
    for file in (run.archive, run.trained):
        check_archive(results, file)
    phases(run)
    return results


def check_archive(results: RunResults, file: Path) -> None:
    """Raise DamagedFile SS601 where evaluations are none of the run's space."""
    space, needed = results.space, {"params", "nonzeros", *results.objectives[1:]}
    with sound(file):
        found = results.evaluations if file == results.run.archive else [*results.climbed, *results.learned]
        for evaluation in found:
            _MEASURED.validate_python(vars(evaluation), strict=True)
            levels, costs = evaluation.genome.levels, evaluation.costs.keys()
            if len(levels) != len(space.units) or (levels < 0).any() or (levels > space.max_levels).any():
                raise ValueError(f"genome {evaluation.genome.id} is none of the run's space")
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


def phases(run: RunDirectory) -> list[Phase]:
    """Lines of the ledger."""
    with sound(run.ledger):
        return _PHASES.validate_python(run.lines(run.ledger), strict=True)


def exports(run: RunDirectory) -> list[Export]:
    """What was exported."""
    with sound(run.exports):
        return _EXPORTS.validate_python(run.lines(run.exports), strict=True)


def generations(run: RunDirectory) -> list[dict[str, float]]:
    """What the searcher said of its generations."""
    with sound(run.generations):
        return _GENERATIONS.validate_python(run.lines(run.generations), strict=True)


def screened(run: RunDirectory) -> Screened | None:
    """How a proxy agreed with measurements; None where none was asked."""
    if not run.screen.exists():
        return None
    with sound(run.screen):
        return _SCREENED.validate_python(run.read(run.screen), strict=True)


def latencies(run: RunDirectory) -> dict[str, Any]:
    """What finalists took, by candidate id, `dense` and `setting`; empty where nothing was measured."""
    if not run.latency_measured.exists():
        return {}
    with sound(run.latency_measured):
        found = dict(run.read(run.latency_measured))
        setting = _REQUEST.validate_python(found.pop("setting"), strict=True)
        timed = _TIMED.validate_python(found, strict=True)
        if len({len(each) for each in timed.values()}) != 1 or "dense" not in timed:
            raise ValueError("the same numbers are expected of each candidate, and of dense")
        return {**timed, "setting": setting}


def test_values(results: RunResults) -> dict[str, float]:
    """What was measured on test data, by name there; empty where nothing was."""
    run = results.run
    if not run.test.exists():
        return {}
    with sound(run.test):
        return _TESTS.validate_python(run.read(run.test), strict=True)


def progress(run: RunDirectory) -> Progress | None:
    """What the controller keeps of itself; None for runs of before it did."""
    if not run.progress.exists():
        return None
    with sound(run.progress):
        return _PROGRESS.validate_python(run.read(run.progress), strict=True)


def audited(path: Path) -> Audited:
    """What an `audit.json` says."""
    with sound(path):
        return _AUDITED.validate_python(json.loads(path.read_text()), strict=True)
