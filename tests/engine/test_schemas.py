"""Run files of anybody's, with right checksums: what is read is a run, or one line that names the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsesearch.errors import InfeasibleError, SparseSearchError
from sparsesearch.files import seal, unseal, write_json
from sparsesearch.report.status import status_json
from sparsesearch.runs.results import RunResults

FILES = ["archive.jsonl", "ledger.jsonl", "generations.jsonl", "exports.jsonl", "run.json", "space.json"]
ODD = [None, True, -1, 3, 10**400, 0.5, float("nan"), float("inf"), "", "x" * 300, [], {}, [[1]], {"a": 1}]
EXTRA = {
    "generations.jsonl": {"generation": 1, "evaluations": 4, "best": 0.5},
    "exports.jsonl": {"id": "ab", "form": "zeros", "out": "/tmp/x", "verified": ["transformers"], "when": "now"},
}


def read_all(path: Path) -> None:
    """Everything that the front, the reports and the status read."""
    results = RunResults(path)
    results.front_json()
    for file in (results.run.ledger, results.run.generations, results.run.exports):
        results.lines(file)
    status_json(path)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value in which something is gone, doubled or of another type or range."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(ODD))
    key, copied = draw(st.sampled_from(keys)), value.copy()
    match draw(st.integers(0, 7)):
        case 0:
            del copied[key]
        case 1 if isinstance(copied, list):
            copied.append(copied[key])
        case _:
            copied[key] = draw(changed(value[key]))
    return copied


@pytest.fixture(scope="module")
def place(small_run: RunResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a run that has lines in every file."""
    path = tmp_path_factory.mktemp("schemas") / "run"
    shutil.copytree(small_run.run.path, path)
    for name, line in EXTRA.items():
        (path / name).write_text(seal(json.dumps(line)) + "\n")
    read_all(path)
    return path


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_file_says_it_is_read_or_named(place: Path, name: str, data: st.DataObject) -> None:
    path = place / name
    before = path.read_bytes()
    try:
        if path.suffix == ".jsonl":
            lines = before.decode().splitlines()
            number = data.draw(st.integers(0, len(lines) - 1))
            line = data.draw(changed(unseal(lines[number])[0]))
            lines[number] = seal(json.dumps(line)) if isinstance(line, dict) and line else json.dumps(line)
            path.write_text("\n".join(lines) + "\n")
        else:
            tree = json.loads(before)
            del tree["checksum"]
            tree = data.draw(changed(tree))
            write_json(path, tree) if isinstance(tree, dict) else path.write_text(json.dumps(tree))
        read_all(place)
    except InfeasibleError:  # no candidate is left inside the limits
        return
    except SparseSearchError as error:
        text = str(error)
        assert text.isprintable()
        assert len(text) < 1000
        assert "SS601" in text
        assert str(place) in text
    finally:
        path.write_bytes(before)
