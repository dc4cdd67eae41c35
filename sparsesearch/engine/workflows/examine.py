"""A full read of a run and of the caches beside it, which finds damaged parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sparsesearch.engine.launch.supernet_plan import check_weights
from sparsesearch.engine.phases.stores import COMPLETE, check_teacher
from sparsesearch.errors import SparseSearchError
from sparsesearch.files import read_json
from sparsesearch.runs.results import RunResults
from sparsesearch.supernet import LevelStore
from sparsesearch.tensors import read_tensors


def examine(path: Path) -> Iterator[tuple[str, str]]:
    """Read each part of a run and of `.cache` beside it; yields its name and its fault, or an empty text."""
    results = RunResults(path)
    run, cache = results.run, results.run.cache.path
    yield _name_and_fault("archive.jsonl", lambda: results.archive)
    for file in (run.ledger, run.generations, run.exports, run.failures):
        yield _name_and_fault(file.name, lambda file=file: results.lines(file))  # type: ignore[misc]
    for role in sorted(p.name for p in run.data.iterdir() if p.is_dir()):
        yield _name_and_fault(f"data/{role}", lambda role=role: run.samples(role))  # type: ignore[misc]
    for index in sorted(cache.glob("stores/*/index.json")):
        yield _name_and_fault(f".cache/stores/{index.parent.name}", lambda index=index: _read_store(index))  # type: ignore[misc]
    for mark in sorted(cache.glob(f"teachers/*/{COMPLETE}")):
        name = f".cache/teachers/{mark.parent.name}"
        yield _name_and_fault(name, lambda mark=mark: check_teacher(mark.parent, thorough=True))  # type: ignore[misc]
    for statistics in sorted({p.parent for p in cache.glob("statistics/*/*.safetensors")}):
        name = f".cache/statistics/{statistics.name}"
        yield _name_and_fault(name, lambda place=statistics: _read_all(place))  # type: ignore[misc]
    for index in sorted(cache.glob("supernets/*/index.json")):
        name = f".cache/supernets/{index.parent.name}"
        yield _name_and_fault(name, lambda index=index: check_weights(index.parent))  # type: ignore[misc]


def _name_and_fault(name: str, read: Callable[[], object]) -> tuple[str, str]:
    try:
        read()
    except SparseSearchError as error:
        return name, str(error)
    return name, ""


def _read_store(index: Path) -> None:
    LevelStore.open(index.parent, read_json(index).get("key", {}), thorough=True)


def _read_all(directory: Path) -> None:
    for path in sorted(directory.glob("*.safetensors")):
        read_tensors(path)
