"""What reports are made of: lineage, rungs, optional sections, pictures, and runs that do not compare."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import as_if_running, rewritten
from typer.testing import CliRunner

from sparsesearch.cli import app
from sparsesearch.errors import InputError, SparseSearchError
from sparsesearch.files import seal
from sparsesearch.report.facts import layers, rungs
from sparsesearch.report.lineage import Ancestry
from sparsesearch.report.pages.png import write_figures, write_runs_figures
from sparsesearch.report.pages.proxy_agreement import agreement_figure, audits_of
from sparsesearch.report.pages.run_page import write_report
from sparsesearch.report.texts import cost_text
from sparsesearch.runs.archive import to_json
from sparsesearch.runs.results import RunResults
from sparsesearch.space import Genome


def report(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["report", *map(str, arguments)], standalone_mode=False)


def test_lineage_goes_through_recorded_parents(own_run: RunResults) -> None:
    first = own_run.evaluations[0]
    units = len(own_run.space.units)

    def genome(moved: Sequence[int]) -> Genome:
        return Genome.of([1 if unit in moved else 0 for unit in range(units)])

    def entry(origin: str, moved: Sequence[int], *parents: Sequence[int]) -> str:
        ids = tuple(genome(each).id for each in parents)
        one = replace(first, genome=genome(moved), origin=origin, draw=0, parents=ids)
        return seal(json.dumps(to_json(one))) + "\n"

    made = [
        entry("dense", []),
        entry("uniform", range(units)),
        entry("random", [0, 1, 2]),
        entry("offspring", [0, 1, 2, 3], range(units), [0, 1, 2]),  # of both, the nearer
        entry("offspring", [0, 1, 3], [0, 1, 2, 3], [5]),  # of which one was never measured
    ]
    as_if_running(own_run.run.path)
    own_run.run.archive.write_text("".join(made))
    results = RunResults(own_run.run.path)
    ancestry, genomes = Ancestry(results), [e.genome for e in results.evaluations]
    chain = ancestry.chain(genomes[4])
    assert [step.evaluation.genome for step in chain] == [genomes[2], genomes[3], genomes[4]]
    assert [step.changed for step in chain] == [None, 1, 1]
    assert [step.number for step in chain] == [3, 4, 5]
    assert [step.origin for step in chain] == ["random", "offspring", "offspring"]
    assert [step.changed for step in ancestry.chain(genomes[1])] == [None]
    assert ancestry.chain(genome([6])) == []


def test_rungs_add_up_to_what_was_spent(small_run: RunResults) -> None:
    ladder = rungs(small_run)
    assert sum(rung.tokens for rung in ladder) == small_run.tokens
    assert sum(rung.count for rung in ladder) == len(small_run.evaluations)


def test_layers_keep_what_units_keep(small_run: RunResults) -> None:
    dense = layers(small_run.space, small_run.space.dense)
    assert np.nanmin(dense.kept) == 1.0
    smallest = layers(small_run.space, small_run.space.smallest)
    row = smallest.rows.index("FFN width")
    units = [u for u in small_run.space.units if u.kind == "ffn_width"]
    np.testing.assert_allclose(smallest.kept[row], [u.levels[-1] / u.total for u in units])


def test_sections_appear_with_their_files(own_run: RunResults) -> None:
    identity, path = own_run.front[0].genome.id, own_run.run.path
    plain = write_report(own_run).read_text()
    for word in ("Latency, predicted", "Proxies", "Exports"):
        assert word not in plain
    times = {
        "predicted_ns": 2_000_000,
        "measured_ns": 2_500_000,
        "measured_bytes": 3_000_000,
        "predicted_bytes": 4_000_000,
    }
    setting = {
        "device": "cpu",
        "hardware": "a <CPU>",
        "batch": 1,
        "prompt": 8,
        "generated": 0,
        "dtype": "float32",
        "threads": 1,
    }
    measured = {"setting": setting, identity: times, "dense": {**times, "predicted_ns": 4_000_000}}
    (path / "latency_measured.json").write_text(json.dumps(measured))
    line = {
        "id": identity,
        "form": "uneven",
        "out": "/somewhere/<small>",
        "verified": ["sparsesearch.load"],
        "when": "now",
    }
    (path / "exports.jsonl").write_text(json.dumps(line) + "\n" + '{"torn')
    (path / "screen.json").write_text(
        json.dumps({"proxy": "snip", "tau": 0.5, "tau_range": [0.2, 0.7], "candidates": 40})
    )
    audit = {
        "quality": "kl",
        "limits": ["params<=50%"],
        "candidates": [],
        "proxies": {
            "snip": {"tau": 0.6, "tau_range": [0.5, 0.7], "control": False},
            "broken": {"tau": None, "tau_range": [None, None], "control": False},
        },
    }
    others: list[tuple[str, dict[str, Any]]] = [
        ("same", {}),
        ("other", {"pruners": {}}),
        ("odd", {"objectives": 7}),
        ("empty", {"objectives": []}),
    ]
    for place, fingerprint in ((path.parent / name, changed) for name, changed in others):
        place.mkdir()
        shutil.copy(own_run.run.space, place)
        shutil.copy(own_run.run.info, place)
        rewritten(place / "run.json", lambda info, changed=fingerprint: info["fingerprint"].update(changed))
        (place / "audit.json").write_text(json.dumps(audit))
    (path.parent / "torn").mkdir()
    (path.parent / "torn" / "audit.json").write_text(json.dumps(audit))
    assert audits_of(own_run) == [path.parent / "same" / "audit.json"]
    assert [trace.y for trace in agreement_figure(audit).data] == [("snip",)]
    text = write_report(own_run).read_text()
    assert "Measured: batch 1, 8 tokens read, float32, 1 thread, on a &lt;CPU&gt;" in text
    assert "-50.0%" in text, "half of dense was predicted, all of it was measured"
    assert "/somewhere/&lt;small&gt;" in text
    assert "tau 0.50 [0.20, 0.70] on 40 candidates" in text
    assert "Kendall&#39;s tau" in text
    assert '<a href="../same/audit.html">' in text
    assert '<a href="../' not in write_report(own_run, offline=True).read_text()


def test_a_run_without_a_front(own_run: RunResults) -> None:
    rewritten(own_run.run.space, lambda space: space.update(limits=["params<=1%"]))
    done = report(own_run.run.path, "--figures")
    assert done.exception is None, done.exception
    text = (own_run.run.path / "report.html").read_text()
    assert "No candidate respects every limit" in text
    assert own_run.baselines[0].genome.id in text, "what was measured is shown"


def test_latencies_are_shown_in_milliseconds() -> None:
    assert cost_text("latency_ns", 1_234_567) == "1.23 ms"
    assert cost_text("params", 1_234_567) == "1.23M"


def test_figures_for_papers(own_run: RunResults) -> None:
    names = {path.name for path in write_figures(own_run)}
    assert {"front.png", "front.svg", "hypervolume.svg", "layers-knee.svg", "layers-best.png", "rungs.svg"} <= names
    assert names == {path.name for path in (own_run.run.path / "figures").iterdir()}


def test_several_runs_from_the_command_line(own_run: RunResults, tmp_path: Path) -> None:
    shutil.copytree(own_run.run.path, tmp_path / "two")
    done = report(own_run.run.path, tmp_path / "two", "--figures", "--out", tmp_path / "both.html")
    assert done.exception is None, done.exception
    assert (tmp_path / "both.html").exists()
    first = (tmp_path / "figures" / "comparison.svg").read_bytes()
    write_runs_figures([own_run, RunResults(tmp_path / "two")], tmp_path / "again")
    assert (tmp_path / "again" / "comparison.svg").read_bytes() == first, "equal runs, equal bytes"


@pytest.mark.parametrize(
    ("file", "change", "code", "words"),
    [
        ("run.json", lambda info: info["fingerprint"].update(weights="other"), "SS602", "their models"),
        ("run.json", lambda info: info.update(objectives=["kl", "macs"]), "SS602", "their objectives"),
        ("run.json", lambda info: info["fingerprint"].update({"data.selection": "x"}), "SS602", "their selection data"),
        ("run.json", lambda info: info.update(selection_sequences=10_000), "SS600", "no final measurements"),
        ("space.json", lambda space: space.update(limits=["params<=1%"]), "SS406", "no candidate that respects"),
    ],
)
def test_runs_that_do_not_compare(
    own_run: RunResults, tmp_path: Path, file: str, change: Callable[[Any], None], code: str, words: str
) -> None:
    shutil.copytree(own_run.run.path, tmp_path / "two")
    rewritten(tmp_path / "two" / file, change)
    error = report(own_run.run.path, tmp_path / "two", "--out", tmp_path / "both.html").exception
    assert isinstance(error, SparseSearchError)
    assert error.code == code
    assert words in error.message
    assert not (tmp_path / "both.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["RUN", "RUN"], "given twice"),
        (["RUN", "RUN", "--journal"], "--journal is for one run"),
        (["RUN", "--out", "x.html"], "--out is for comparing"),
        (["RUN", "NONE"], "is not a run directory"),
        (["RUN", "OTHER", "--out", "NONE/x/y.html"], "does not exist"),
    ],
)
def test_mistakes(own_run: RunResults, tmp_path: Path, arguments: list[str], words: str) -> None:
    shutil.copytree(own_run.run.path, tmp_path / "other")
    places = {"RUN": str(own_run.run.path), "NONE": str(tmp_path / "none"), "OTHER": str(tmp_path / "other")}
    for name, place in places.items():
        arguments = [argument.replace(name, place, 1) for argument in arguments]
    error = report(*arguments).exception
    assert isinstance(error, InputError)
    assert words in error.message
