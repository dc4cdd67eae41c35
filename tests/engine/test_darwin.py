"""Training-aware selection: schedule, ledger, no-op training, and a killed run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import launched, run_search, synthetic_space

from sparsesearch.engine import controller
from sparsesearch.errors import InputError
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.searchers.registry import create

Make = Callable[[str], Path]
OPTIONS = {"offspring": 4, "survivors": [2, 1], "tokens": [32, 64]}


def changes(searcher: str, options: dict[str, Any], **training: Any) -> dict[str, Any]:
    return {
        "units": [{"kind": "sparsity", "levels": ["40%", "60%", "75%"]}],
        "limits": ["sparsity>=60%"],
        "training": {"batch": 2, "learning_rate": 1e-3} | training,
        "search": {"searcher": searcher, "evals": 24, "final": 4, "options": OPTIONS | options},
    }


def test_the_published_schedule() -> None:
    """16 children, of which 8, 4, 2, 1 survive 10k, 50k, 100k, 200k tokens: 1.36 M training tokens a generation."""
    space = synthetic_space(0, blocks=6, limits=("nonzeros<=60%",))
    searcher = create("darwin", space, ["kl", "nonzeros"], 0, {})
    stages = []
    for _ in range(5):
        proposals = searcher.ask(1000)
        stages.append((len(proposals), proposals[0].tokens, proposals[0].trained))
        searcher.tell(
            [
                Evaluation(p.genome, 4, p.draw, p.origin, "ok", float(sum(p.genome.levels)), {}, trained=p.trained)
                for p in proposals
            ]
        )
    # The parent competes again in the last stage.
    assert stages[1:] == [(16, 1024, 10_000), (8, 2048, 50_000), (4, 4096, 100_000), (3, 8192, 200_000)]


@pytest.fixture(scope="module")
def run(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    path = tmp_path_factory.mktemp("darwin") / "run"
    return run_search(path, family_dir("llama"), **changes("darwin", {"training": [64, 128]}))


def test_candidates_are_trained_before_they_are_compared(run: RunResults) -> None:
    mutations = [e for e in run.evaluations if e.origin == "mutation"]
    assert {e.trained for e in mutations} == {64, 128}
    assert all(e.trained == 0 for e in run.final)
    untrained = {e.genome: e.quality for e in run.final}
    both = [(e.quality, untrained[e.genome]) for e in mutations if e.genome in untrained and e.trained == 128]
    assert both
    assert all(trained < before for trained, before in both), "training helps"


def test_a_token_of_training_counts_three_times(run: RunResults) -> None:
    charged = sum(line["tokens"] for line in run.run.lines(run.run.ledger) if line["phase"] == "evaluation")
    selection = sum(e.measured_sequences * 16 for e in run.evaluations)
    # What was measured on the same sequences after as much training before is not trained again.
    assert charged == selection + 3 * sum(e.trained for e in run.evaluations if e.sequences > e.known)


def test_a_killed_run_goes_on_to_the_same_archive(run: RunResults, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(run.run.path, path)
    archive = run.run.archive.read_bytes()
    lines = archive.splitlines(keepends=True)
    (path / "archive.jsonl").write_bytes(b"".join(lines[:9]) + lines[9][:30])
    controller.resume(path, {}, Reporter(quiet=True))
    assert (path / "archive.jsonl").read_bytes() == archive


def test_training_that_changes_nothing_changes_no_selection(family_dir: Make, tmp_path: Path) -> None:
    plain = run_search(tmp_path / "plain", family_dir("llama"), **changes("evolution", {}))
    options = {"training": [32, 64]}
    still = run_search(tmp_path / "still", family_dir("llama"), **changes("darwin", options, learning_rate=1e-30))
    genomes = [[e.genome for e in r.evaluations if e.origin == "mutation"] for r in (plain, still)]
    assert genomes[0] == genomes[1]
    for reference, evaluation in zip(plain.evaluations, still.evaluations, strict=True):
        assert reference.quality == pytest.approx(evaluation.quality, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "training", "code", "words"),
    [
        ({"training": [64]}, {}, "SS101", "one entry a stage"),
        ({"training": [128, 64]}, {}, "SS101", "rising"),
        ({"training": [8, 64]}, {}, "SS118", "8 training tokens are less than one step takes"),
        ({"training": [64, 128]}, {"method": "lora"}, "SS117", "masked_lora"),
    ],
)
def test_schedules_that_cannot_be(
    family_dir: Make, options: dict[str, Any], training: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        launched(family_dir("llama"), **changes("darwin", options, **training))
    assert caught.value.code == code
    assert words in str(caught.value)


def test_the_archive_says_what_was_trained(run: RunResults) -> None:
    lines = [json.loads(line) for line in run.run.archive.read_text().splitlines()]
    assert {line.get("trained", 0) for line in lines} == {0, 64, 128}
