"""Reads the files of a run that only reports use; types and ranges are checked, since files are not trusted."""

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


class Screening(TypedDict):
    proxy: str
    tau: Share
    tau_range: Annotated[list[Share], Field(min_length=2, max_length=2)]
    candidates: Count


class Latency(TypedDict):
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


class ProxyAgreement(TypedDict):
    tau: Share | None
    tau_range: Annotated[list[Share | None], Field(min_length=2, max_length=2)]
    control: bool
    tau_after: NotRequired[Share | None]
    tau_after_range: NotRequired[Annotated[list[Share | None], Field(min_length=2, max_length=2)]]


class Training(TypedDict):
    tokens: Count


class AuditFile(TypedDict):
    quality: str
    proxies: dict[str, ProxyAgreement]
    training: NotRequired[Training]


_SCREENING, _PROGRESS, _AUDIT = TypeAdapter(Screening), TypeAdapter(Progress), TypeAdapter(AuditFile)
_LATENCIES, _REQUEST, _TESTS = TypeAdapter(dict[str, Latency]), TypeAdapter(Request), TypeAdapter(dict[str, Number])


def _document(results: RunResults, path: Path, kind: TypeAdapter[T]) -> T | None:
    if not path.exists():
        return None
    with sound(path):
        return kind.validate_python(results.run.read(path), strict=True)


def read_screening(results: RunResults) -> Screening | None:
    """Read the agreement of the screening proxy with measurements; None if there was no screening."""
    return _document(results, results.run.screen, _SCREENING)


def read_test_values(results: RunResults) -> dict[str, float]:
    """Read the measurements on test data, by `name_in_tests`; empty if there are none."""
    return _document(results, results.run.test, _TESTS) or {}


def read_progress(results: RunResults) -> Progress | None:
    """Read the controller's progress; None for old runs, which have none."""
    return _document(results, results.run.progress, _PROGRESS)


def read_latencies(results: RunResults) -> dict[str, Any]:
    """Read the measured latencies, by candidate id and `dense`, with the `setting`; empty if there are none."""
    run = results.run
    if not run.latency_measured.exists():
        return {}
    with sound(run.latency_measured):
        document = dict(run.read(run.latency_measured))
        setting = _REQUEST.validate_python(document.pop("setting"), strict=True)
        latencies = _LATENCIES.validate_python(document, strict=True)
        if len({len(latency) for latency in latencies.values()}) != 1 or "dense" not in latencies:
            raise ValueError("each candidate, and dense, must have the same numbers")
        return {**latencies, "setting": setting}


def read_audit(path: Path) -> AuditFile:
    """Read an `audit.json`; raises DamagedFile SS601."""
    with sound(path):
        return _AUDIT.validate_python(read_json(path), strict=True)
