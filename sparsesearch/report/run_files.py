"""The files of a run that reports alone read, with types and ranges checked: they may be anybody's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from sparsesearch.files import read_json
from sparsesearch.runs.results import RunResults
from sparsesearch.runs.schemas import Count, Number, sound

Share = Annotated[Number, Field(ge=-1, le=1)]
T = TypeVar("T")


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


_SCREENED, _PROGRESS, _AUDITED = TypeAdapter(Screened), TypeAdapter(Progress), TypeAdapter(Audited)
_TIMED, _REQUEST, _TESTS = TypeAdapter(dict[str, Timed]), TypeAdapter(Request), TypeAdapter(dict[str, Number])


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
