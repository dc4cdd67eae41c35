"""Rungs of training above a search: promotion, ledger, resume, and Ray Tune."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import launched, recipe, run_search

import sparsesearch as ss
from sparsesearch.engine import controller
from sparsesearch.engine.phases.trials import kept_weights
from sparsesearch.engine.reopen import open_run
from sparsesearch.engine.workflows import recover as recovering
from sparsesearch.errors import DamagedFile, InputError
from sparsesearch.evaluation import perplexity
from sparsesearch.export import export, load
from sparsesearch.export.measuring.evaluated_model import open_target
from sparsesearch.pareto import best_fronts
from sparsesearch.report.pages.figures import ladder_figure
from sparsesearch.report.pages.run_page import write_report
from sparsesearch.report.terminal import front_table
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults, name_in_tests
from sparsesearch.training import TrainingRun, loop

Make = Callable[[str], Path]
CHANGES: dict[str, Any] = {
    "limits": ["nonzeros<=90%"],
    "units": [{"kind": "sparsity", "levels": ["40%", "75%"]}, {"kind": "ffn_width", "levels": 3}],
    "training": {"batch": 2, "learning_rate": 1e-3, "schedule": "constant"},
}
SEARCH = {"searcher": "random", "evals": 12, "final": 6, "options": {"batch": 6, "tokens": 32, "sizes": 2}}
RUNGS = [{"tokens": 64, "candidates": 3}, {"tokens": 160, "candidates": 1}]


def with_rungs(**changes: Any) -> dict[str, Any]:
    return CHANGES | {"search": SEARCH | {"rungs": RUNGS} | changes}


@pytest.fixture(scope="module")
def climbed(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_search(tmp_path_factory.mktemp("climbed") / "run", family_dir("llama"), **with_rungs())


def test_fewer_candidates_climb_higher(climbed: RunResults) -> None:
    entries = [json.loads(line) for line in climbed.run.trained.read_text().splitlines()]
    uniform = {e.genome.id for e in climbed.compared_baselines()}
    by_rung = {tokens: {e["id"] for e in entries if e["trained"] == tokens} for tokens in (64, 160)}
    assert len(by_rung[64] - uniform) == 3
    assert len(by_rung[160] - uniform) == 1
    assert by_rung[160] <= by_rung[64]
    assert all(uniform <= ids for ids in by_rung.values()), "rivals are trained as well"
    assert {e.trained for e in climbed.front} == {160}
    before = {e.genome.id: e.quality for e in climbed.final}
    assert any(e["quality"] < before[e["id"]] for e in entries), "training helps"
    shown = climbed.front_json()["candidates"]
    assert {c["rung"] for c in shown} == {"trained:160"}


def test_the_report_shows_the_rungs(climbed: RunResults) -> None:
    table = front_table(climbed, climbed.front, "")
    assert list(table.columns[-1].cells)[: len(climbed.front)] == ["160"] * len(climbed.front)
    text = write_report(climbed).read_text()
    assert "Rungs of training" in text
    assert "device seconds" in text
    figure = ladder_figure(climbed)
    assert {trace.name for trace in figure.data} == {"searched", "uniform"}
    by_id = {e.genome.id: e.quality for e in climbed.front}
    ends = [trace.y[-1] for trace in figure.data if trace.x[-1] == "160"]
    assert set(by_id.values()) <= set(ends)


def test_the_ledger_counts_tokens_consumed(climbed: RunResults) -> None:
    lines = [line for line in climbed.run.lines(climbed.run.ledger) if line["phase"].startswith("training")]
    uniform = len({e.genome for e in climbed.compared_baselines()})
    phases = {at: [e["tokens"] for e in lines if e["phase"] == f"training {at}"] for at in (64, 160)}
    # Steps are of 32 tokens; the second rung goes on from the first.
    assert phases == {64: [64] * (3 + uniform), 160: [96] * (1 + uniform)}
    assert all(line["device_seconds"] > 0 for line in lines)
    before = climbed.run.ledger.read_bytes()
    controller.resume(climbed.run.path, {}, Reporter(quiet=True))
    added = climbed.run.ledger.read_bytes().removeprefix(before)
    assert b"training" not in added, "what was trained is not paid for again"


def test_a_trained_candidate_is_found_and_exported_as_it_is(climbed: RunResults, tmp_path: Path) -> None:
    (best,) = [e for e in climbed.front if e.quality == min(e.quality for e in climbed.front)]
    assert climbed.find(best.genome.id).trained == 160
    export(open_run(climbed), climbed.find(best.genome.id), tmp_path / "out", "zeros")
    record = json.loads((tmp_path / "out" / "sparsesearch.json").read_text())
    assert record["training_tokens"] == 160
    assert record["objectives"]["kl"] == best.quality
    assert "after 160 tokens of training" in (tmp_path / "out" / "README.md").read_text()
    gone = replace(best, trained=96)
    with pytest.raises(InputError, match=r"SS501 .* are not kept"):
        export(open_run(climbed), gone, tmp_path / "gone")


def test_damaged_weights_of_a_trained_candidate_are_not_exported(climbed: RunResults, tmp_path: Path) -> None:
    shutil.copytree(climbed.run.path.parent, tmp_path, dirs_exist_ok=True)
    results = RunResults(tmp_path / climbed.run.path.name)
    best = results.pick("best")
    weights = kept_weights(results.run, best)
    assert weights is not None
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DamagedFile, match=rf"SS601 .*{weights.name} is damaged"):
        export(open_run(results), best, tmp_path / "out", "zeros")
    with pytest.raises(DamagedFile, match=rf"SS601 .*{weights.name} is damaged"):
        open_target(f"{results.run.path}/{best.genome.id}")
    assert not (tmp_path / "out").exists()


def test_recovery_goes_on_where_the_rungs_ended(family_dir: Make, tmp_path: Path) -> None:
    results = run_search(tmp_path / "run", family_dir("llama"), **with_rungs())
    best = results.pick("best")
    still = recovering.prepare_recovery(results, {"training.learning_rate": 1e-12}, 64)
    (same,) = recovering.recover(still, [best], Reporter(quiet=True))
    assert same.quality == pytest.approx(best.quality, rel=1e-5)
    (further,) = recovering.recover(recovering.prepare_recovery(results, {}, 64), [best], Reporter(quiet=True))
    assert further.quality < best.quality
    assert further.after.trained == 160 + 64


def test_without_limits_a_resumed_ladder_trains_the_same(family_dir: Make, tmp_path: Path) -> None:
    for seed in range(3):
        changes = with_rungs(seed=seed) | {"limits": []}
        whole = run_search(tmp_path / f"{seed}", family_dir("llama"), **changes)
        trained = whole.run.trained.read_bytes()
        first = [line for line in trained.splitlines(keepends=True) if json.loads(line)["trained"] == 64]
        whole.run.trained.write_bytes(b"".join(first))
        controller.resume(whole.run.path, {}, Reporter(quiet=True))
        assert whole.run.trained.read_bytes() == trained


def test_one_after_another_asha_is_halving(family_dir: Make, tmp_path: Path) -> None:
    search = {"asynchronous": True, "searcher": "nsga2", "options": {"population": 6, "offspring": 4, "tokens": 32}}
    results = run_search(tmp_path / "run", family_dir("llama"), **with_rungs(**search))
    rungs = [e["trained"] for e in map(json.loads, results.run.trained.read_text().splitlines())]
    assert rungs.count(64) > rungs.count(160) >= 1


def test_a_quality_of_ones_own_judges_the_trained(family_dir: Make, tmp_path: Path) -> None:
    def quality(model: Any, samples: Any) -> Any:
        tokens = torch.from_numpy(np.array(samples.arrays["input_ids"], dtype=np.int64))
        with torch.no_grad():
            return -model(input_ids=tokens).logits.max(dim=-1).values.mean(dim=1)

    tree = recipe(family_dir("llama"), **with_rungs(), objectives=["quality", "params"])
    results = ss.search(tree, quality=quality, name="own", results=tmp_path, quiet=True).results
    assert {e.trained for e in results.front} == {160}


def test_a_killed_run_goes_on_to_the_same_result(climbed: RunResults, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(climbed.run.path, path)
    trained = (path / "trained.jsonl").read_bytes()
    entries = trained.splitlines(keepends=True)
    (path / "trained.jsonl").write_bytes(b"".join(entries[:2]) + entries[2][:30])
    last = json.loads(entries[-1])["id"]
    (path / "trials" / last / "160.json").unlink()
    controller.resume(path, {}, Reporter(quiet=True))
    assert (path / "trained.jsonl").read_bytes() == trained


def test_a_run_killed_while_it_trains_pays_once(
    climbed: RunResults, family_dir: Make, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(loop, "MIN_CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(loop, "CHECKPOINT_TIME_FACTOR", 0)
    save, saved = TrainingRun.save, list[int]()

    def killed(self: TrainingRun, directory: Path) -> None:
        save(self, directory)
        saved.append(self.step)
        if len(saved) == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingRun, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path / "run", family_dir("llama"), **with_rungs())
    controller.resume(tmp_path / "run", {}, Reporter(quiet=True))
    results = RunResults(tmp_path / "run")
    assert results.run.trained.read_bytes() == climbed.run.trained.read_bytes()

    def paid(run: RunResults) -> int:
        return sum(e["tokens"] for e in run.run.lines(run.run.ledger) if e["phase"].startswith("training"))

    assert paid(results) == paid(climbed)


def test_test_data_judge_the_weights_that_the_front_shows(
    family_dir: Make, tmp_path: Path, quick_exports: None
) -> None:
    data = recipe("")["data"] | {"test": {"source": "stdlib:test", "sequences": 4, "length": 16, "take": "first"}}
    results = run_search(tmp_path / "run", family_dir("llama"), **with_rungs(), data=data)
    record, best = json.loads(results.run.test.read_text()), results.pick("best")
    assert best.trained
    export(open_run(results), best, tmp_path / "out")
    again = perplexity(load(tmp_path / "out"), results.run.samples("test").arrays["input_ids"], 4)
    assert record[name_in_tests(best)] == pytest.approx(again, rel=1e-4)


@pytest.mark.ray
@pytest.mark.parametrize("asynchronous", [False, True])
def test_ray_tune_trains_to_the_same_numbers(
    cluster: str, climbed: RunResults, family_dir: Make, tmp_path: Path, asynchronous: bool
) -> None:
    changes = with_rungs(asynchronous=asynchronous)
    if asynchronous:
        changes["search"] |= {"searcher": "nsga2", "options": {"population": 6, "offspring": 4, "tokens": 32}}
    # Two where they decide together who goes on; one process each has to start.
    executor = {"kind": "ray", "workers": 2 if asynchronous else 1}
    results = run_search(tmp_path / "run", family_dir("llama"), **changes, executor=executor)
    if asynchronous:
        rungs = [e["trained"] for e in map(json.loads, results.run.trained.read_text().splitlines())]
        assert rungs.count(64) > rungs.count(160) >= 1
    else:
        assert results.run.trained.read_bytes() == climbed.run.trained.read_bytes()


def test_training_that_does_nothing_changes_no_order(family_dir: Make, tmp_path: Path, monkeypatch: Any) -> None:
    def skip(self: TrainingRun) -> None:
        self.step += 1

    monkeypatch.setattr(TrainingRun, "_one_step", skip)
    results = run_search(tmp_path / "run", family_dir("llama"), **with_rungs())
    before = {e.genome: e.quality for e in results.final}
    assert results.trained_evaluations
    for evaluation in results.trained_evaluations:
        assert evaluation.quality == pytest.approx(before[evaluation.genome], rel=1e-5)


def test_a_candidate_that_diverges_keeps_its_rung(family_dir: Make, tmp_path: Path) -> None:
    training = {"batch": 2, "learning_rate": 1e20, "schedule": "constant", "optimizer": "sgd", "clip": 1e9, "warmup": 0}
    results = run_search(tmp_path / "run", family_dir("llama"), **with_rungs() | {"training": training})
    assert not results.trained_evaluations
    assert results.front


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": SEARCH | {"rungs": [{"tokens": 31, "candidates": 2}]}}, "SS118 .* less than one step"),
        ({"training": {"method": "lora", "batch": 2}}, "SS117 .* would fill pruned weights"),
    ],
)
def test_mistakes(family_dir: Make, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        launched(family_dir("llama"), **with_rungs() | changes)


def test_a_ladder_narrows(family_dir: Make) -> None:
    for upper in ({"tokens": 64, "candidates": 1}, {"tokens": 128, "candidates": 4}):
        with pytest.raises(ValueError, match="each rung takes more tokens"):
            launched(family_dir("llama"), **with_rungs(rungs=[RUNGS[0], upper]))


def test_promotion() -> None:
    points = [[1, 4], [2, 2], [4, 1], [2, 5], [5, 5], [np.nan, 0], [3, 3]]
    assert best_fronts(points, 3) == [0, 1, 2]
    assert best_fronts(points, 5) == [0, 1, 2, 3, 6]
    assert best_fronts(points, 2) == [0, 2], "ends first, where a front does not fit"
    assert best_fronts(points, 99) == [0, 1, 2, 3, 4, 6]
