"""Runs end to end on a tiny model with the local executor: archive, resume, failures, budgets, refusals."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from support import launched, recipe, rewritten, run_search

from sparsesearch.config import ExecutorConfig
from sparsesearch.engine import controller, job
from sparsesearch.engine.launch import numerics
from sparsesearch.engine.phases import measuring
from sparsesearch.engine.reopen import open_run
from sparsesearch.engine.workers.call_results import Failed, Measured
from sparsesearch.engine.workers.local import LocalExecutor
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import EnvironmentProblem, InfeasibleError, InputError, SparseSearchError
from sparsesearch.evaluation import Evaluator, Teacher
from sparsesearch.evaluation.evaluator import minibatch
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.testing import check_executor

Make = Callable[[str], Path]
QUIET = Reporter(quiet=True)
NSGA2 = {
    "searcher": "nsga2",
    "evals": 20,
    "final": 4,
    "options": {"population": 8, "offspring": 6, "tokens": 32, "sizes": 2},
}
EVOLUTION = {
    "searcher": "evolution",
    "evals": 25,
    "options": {"offspring": 4, "survivors": [2, 1], "tokens": [16, 48]},
}


class FakeExecutor:
    """Evaluates by formula and counts; everything else goes to a real local worker."""

    calls = 0

    def __init__(self, setup: Any) -> None:
        self.setup = setup

    @cached_property
    def real(self) -> LocalExecutor:
        return LocalExecutor(self.setup)

    def map(
        self, method: Any, calls: Sequence[tuple[Any, ...]], lanes: int | None = None, on_death: Any = None
    ) -> Iterator[Any]:
        if method is not Worker.evaluate:
            yield from self.real.map(method, calls, lanes)
            return
        for call in calls:
            yield self.evaluated(*call)

    def run(self, method: Any, *call: Any) -> Any:
        return self.real.run(method, *call)

    def evaluated(self, genome: bytes, sequences: list[int], trained: int) -> Measured:
        type(self).calls += 1
        levels = np.frombuffer(genome, dtype="<i2").astype(float)
        return Measured([float((levels**1.5 / (s + 2)).sum()) for s in sequences])

    def stream(self, method: Any, source: Any, on_death: Any = None) -> Iterator[tuple[Any, Any]]:
        """Three workers, of which any may be the first to end."""
        rng, running = np.random.default_rng(), []
        while True:
            while len(running) < 3 and (request := source()):
                running.append(request)
            if not running:
                return
            tag, call = running.pop(rng.integers(len(running)))
            yield tag, self.evaluated(*call)

    def each(self, method: Any) -> list[Any]:
        return [{"peak_bytes": 1}]

    def close(self) -> None: ...


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeExecutor]:
    FakeExecutor.calls = 0
    monkeypatch.setattr(job, "create_executor", FakeExecutor)
    return FakeExecutor


def test_the_local_executor_conforms(tmp_path: Path) -> None:
    config = SimpleNamespace(executor=ExecutorConfig(kind="local"))
    setup: Any = SimpleNamespace(run=str(tmp_path), config=config)
    check_executor(lambda worker: LocalExecutor(setup, worker))


def test_a_run_has_a_front_of_measured_feasible_candidates(small_run: RunResults) -> None:
    assert small_run.front
    assert small_run.dense is not None
    assert small_run.dense.quality < 1e-6
    assert small_run.baselines
    for evaluation in small_run.front:
        assert small_run.space.feasible(evaluation.genome)
        assert evaluation.costs == small_run.space.costs.named(evaluation.genome.levels)
        assert len(evaluation.losses) == small_run.info["selection_sequences"]
        assert evaluation.quality == pytest.approx(np.mean(evaluation.losses))
    data = json.loads(small_run.run.front.read_text())
    assert {"run", "objectives", "dense", "hypervolume", "tokens", "evaluations", "candidates"} <= set(data)
    assert {"id", "objectives", "costs", "rung", "genome"} <= set(data["candidates"][0])
    tested = json.loads(small_run.run.test.read_text())
    assert {e.genome.id for e in small_run.picks().values()} <= set(tested)


@pytest.mark.parametrize("search", [NSGA2, EVOLUTION], ids=["nsga2", "evolution"])
def test_resume_after_a_cut_at_every_line_and_half_line_gives_the_same_bytes(
    fake: type[FakeExecutor],
    family_dir: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    search: dict[str, Any],
) -> None:
    launch = launched(family_dir("llama"), search=search, limits=["params<=90%"])
    results = controller.start(launch, tmp_path / "whole", QUIET)
    # Checking the same model and data a hundred times over would only take time.
    monkeypatch.setattr(controller, "prepare", lambda *_, **__: launch)
    whole = results.run.archive.read_bytes()
    front = json.loads(results.run.front.read_text())
    lines = whole.splitlines(keepends=True)
    # A genome all of whose sequences are known takes no call.
    calls = [entry["known"] < entry["sequences"] for entry in map(json.loads, lines)]
    assert fake.calls == sum(calls)
    for kept in range(len(lines) + 1):
        for half in (0, len(lines[kept]) // 2) if kept < len(lines) else (0,):
            path = tmp_path / "cut"
            shutil.copytree(tmp_path / "whole", path)
            (path / "front.json").unlink()
            (path / "archive.jsonl").write_bytes(b"".join(lines[:kept]) + (lines[kept][:half] if half else b""))
            fake.calls = 0
            again = controller.resume(path, {}, QUIET)
            assert again.run.archive.read_bytes() == whole
            assert fake.calls == sum(calls[kept:]), "something already paid for was measured again"
            assert json.loads(again.run.front.read_text()) == front | {"run": str(path.resolve())}
            shutil.rmtree(path)


def test_resume_with_the_real_model_continues_bit_for_bit(family_dir: Make, tmp_path: Path) -> None:
    results = run_search(tmp_path / "run", family_dir("llama"), search=NSGA2)
    whole = results.run.archive.read_bytes()
    for cut in (1, len(whole) // 3, len(whole) - 7):
        results.run.archive.write_bytes(whole[:cut])
        assert controller.resume(tmp_path / "run", {}, QUIET).run.archive.read_bytes() == whole


def test_how_a_measurement_is_portioned_changes_no_bit(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = []
    for portion in (1, 100):
        monkeypatch.setattr(measuring, "MINIBATCHES_PER_CALL", portion)
        results = run_search(tmp_path / str(portion), family_dir("llama"), batch=2)
        archives.append(results.run.archive.read_bytes())
    assert archives[0] == archives[1]


def test_more_evaluations_extend_a_finished_run(fake: type[FakeExecutor], family_dir: Make, tmp_path: Path) -> None:
    run_search(tmp_path / "run", family_dir("llama"), search=NSGA2)
    before = len(Archive(tmp_path / "run" / "archive.jsonl").entries)
    more = controller.resume(tmp_path / "run", {"search.evals": 40}, QUIET)
    assert len(more.evaluations) > before
    longer = run_search(tmp_path / "long", family_dir("llama"), search=NSGA2 | {"evals": 40})

    def searched(results: RunResults) -> list[Any]:
        return [e for e in results.evaluations if e.sequences < results.info["selection_sequences"]]

    assert searched(more) == searched(longer)
    # What the first session measured on all data stays, so the extended run can only know more.
    assert more.hypervolume() >= longer.hypervolume() * (1 - 1e-9)


def test_without_generations_every_budget_is_kept_and_a_resume_goes_on(
    fake: type[FakeExecutor], family_dir: Make, tmp_path: Path
) -> None:
    search = NSGA2 | {"asynchronous": True, "evals": 60}
    results = run_search(tmp_path / "run", family_dir("llama"), search=search)
    assert results.info["search_evaluations"] == 60
    assert len({(e.genome, e.draw, e.sequences) for e in results.evaluations}) == len(results.evaluations)
    # A crash loses what was running, nothing else; the rest of the budget is spent.
    lines = results.run.archive.read_text().splitlines(keepends=True)
    results.run.archive.write_text("".join(lines[:45]))
    fake.calls = 0
    again = controller.resume(results.run.path, {}, QUIET)
    assert [e.genome for e in again.evaluations[:45]] == [e.genome for e in results.evaluations[:45]]
    assert again.info["search_evaluations"] == 60
    assert fake.calls <= len(results.evaluations) - 45 + 10
    assert again.front


def test_the_memory_of_workers_and_what_the_searcher_learned_are_kept(family_dir: Make, tmp_path: Path) -> None:
    run = run_search(tmp_path / "run", family_dir("llama"), search=NSGA2 | {"evals": 40}).run
    (worker,) = json.loads(run.workers.read_text())
    assert worker["peak_bytes"] > 1e7
    assert 0 < worker["blocks_ran"] < worker["blocks_asked"]
    learned = run.lines(run.generations)
    assert [line["generation"] for line in learned] == list(range(1, len(learned) + 1))
    moves = [line[name] for line in learned[-1:] for name in line if name.startswith("move ")]
    assert sum(moves) == pytest.approx(1, abs=1e-3)


def test_a_bound_that_holds_no_states_is_said(
    family_dir: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    executor = {"kind": "local", "prefix_bytes": 1000}
    launch = launched(family_dir("llama"), search=NSGA2 | {"evals": 4}, executor=executor)
    results = controller.start(launch, tmp_path / "run", Reporter())
    assert "executor.prefix_bytes 1,000 cannot hold one block's hidden states" in " ".join(
        capsys.readouterr().err.split()
    )
    (worker,) = json.loads(results.run.workers.read_text())
    assert worker["prefix_bytes"] == 0
    assert worker["blocks_ran"] == worker["blocks_asked"]


def test_a_search_that_found_nothing_of_its_own_says_so(
    family_dir: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = {"searcher": "random", "evals": 30, "options": {"tokens": 32}}
    for search, warning in (({"searcher": "auto", "evals": 4}, True), (random, False)):
        launch = launched(family_dir("llama"), search=search, limits=["params<=90%"])
        controller.start(launch, tmp_path / str(search["searcher"]), Reporter())
        assert ("SS410 the front is uniform pruning alone" in " ".join(capsys.readouterr().err.split())) is warning


def test_a_space_smaller_than_the_budget_ends(fake: type[FakeExecutor], family_dir: Make, tmp_path: Path) -> None:
    for searcher in ("random", "nsga2", "evolution", "auto", "dp", "milp", "optuna:tpe"):
        changes = {"units": [{"kind": "kv_groups", "levels": [0.5]}], "limits": ["params<=99%"]}
        results = run_search(tmp_path / searcher, family_dir("llama"), search={"searcher": searcher}, **changes)
        assert len({e.genome for e in results.evaluations}) <= 8
        assert results.front


def test_time_that_is_up_does_not_discard_the_archive(
    fake: type[FakeExecutor], family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = NSGA2 | {"evals": None, "hours": 1.0}
    clock = iter(range(0, 10**9, 60))
    monkeypatch.setattr(Ledger, "seconds", lambda _: next(clock))
    results = run_search(tmp_path / "run", family_dir("llama"), search=search)
    whole = results.run.archive.read_bytes()
    monkeypatch.setattr(Ledger, "seconds", lambda _: 10**9)
    assert controller.resume(tmp_path / "run", {}, QUIET).run.archive.read_bytes() == whole


def test_nothing_left_to_do_measures_nothing(fake: type[FakeExecutor], family_dir: Make, tmp_path: Path) -> None:
    run_search(tmp_path / "run", family_dir("llama"))
    fake.calls = 0
    controller.resume(tmp_path / "run", {}, QUIET)
    assert fake.calls == 0


def test_budgets_are_kept_exactly(fake: type[FakeExecutor], family_dir: Make, tmp_path: Path) -> None:
    search = {"searcher": "random", "tokens": 32 * 9 + 5, "final": 1, "options": {"tokens": 32, "batch": 4}}
    results = run_search(tmp_path / "run", family_dir("llama"), search=search)
    searched = [e for e in results.evaluations if e.sequences == 2]
    assert len(searched) == 9


@pytest.mark.parametrize("what", ["nan", "raise"])
def test_bad_candidates_stay_out_of_the_front_and_do_not_stop_the_run(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from sparsesearch.evaluation import Evaluator

    measure = Evaluator.losses

    def sometimes(self: Evaluator, genome: Any, sequences: Any) -> Any:
        if int(genome.id, 16) % 4 == 0:
            if what == "raise":
                raise RuntimeError("kernel exploded")
            return np.full(len(sequences), math.nan)
        return measure(self, genome, sequences)

    monkeypatch.setattr(Evaluator, "losses", sometimes)
    launch = launched(family_dir("llama"), search=recipe("")["search"] | {"evals": 30})
    results = controller.start(launch, tmp_path / "run", Reporter())
    bad = [e for e in results.evaluations if e.status != "ok"]
    assert bad
    assert all(math.isnan(e.quality) for e in bad)
    assert not {e.genome for e in bad} & {e.genome for e in results.front}
    assert results.front
    assert json.loads(results.run.front.read_text())["hypervolume"] > 0
    error = capsys.readouterr().err
    assert f"SS402 candidate {bad[0].genome.id}" in error
    assert Archive(results.run.archive).entries.keys() == results.archive.entries.keys()


def test_a_run_where_most_candidates_fail_stops(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "evaluate", lambda *_: Failed("RuntimeError: broken"))
    with pytest.raises(SparseSearchError, match="SS403 20 of 20 candidates failed") as caught:
        run_search(tmp_path / "run", family_dir("llama"), search=recipe("")["search"] | {"evals": 100})
    assert "broken" in caught.value.hint


def test_an_existing_run_is_not_overwritten(small_run: RunResults) -> None:
    with pytest.raises(InputError, match=r"SS303 .* exists \(\d+ evaluations\).*resume"):
        controller.start(launched(small_run.info["model"]), small_run.run.path, QUIET)


def test_a_run_that_is_active_is_refused(fake: type[FakeExecutor], family_dir: Make, tmp_path: Path) -> None:
    results = run_search(tmp_path / "run", family_dir("llama"))
    with FileLock(results.run.path / "run.lock"):
        (results.run.path / "run.lock.owner").write_text("pid 4121 on host-a")
        with pytest.raises(EnvironmentProblem, match=r"SS304 run .* is active: pid 4121 on host-a"):
            controller.resume(tmp_path / "run", {}, QUIET)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"search.seed": 5}, "search.seed"),
        ({"limits": ["params<=80%"]}, "space"),
        ({"data.calibration.sequences": 5}, "data.calibration"),
        ({"pruners.damp": 0.1}, "pruners"),
        ({"executor.threads": 2}, "numerics.threads"),
    ],
)
def test_resume_refuses_what_changes_results(small_run: RunResults, change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match="SS602") as caught:
        controller.resume(small_run.run.path, change, QUIET)
    assert named in caught.value.message


def test_a_damaged_middle_line_is_named(fake: type[FakeExecutor], family_dir: Make, tmp_path: Path) -> None:
    results = run_search(tmp_path / "run", family_dir("llama"))
    lines = results.run.archive.read_text().splitlines()
    lines[2] = lines[2][:20]
    results.run.archive.write_text("\n".join(lines) + "\n")
    with pytest.raises(EnvironmentProblem, match=r"SS601 .*archive.jsonl:3 is damaged"):
        controller.resume(tmp_path / "run", {}, QUIET)


def test_a_disk_that_is_too_small(family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(EnvironmentProblem, match="SS305 levels and calibration need about"):
        run_search(tmp_path / "run", family_dir("llama"))
    assert not (tmp_path / "run").exists()


def test_a_worker_that_wants_a_gpu_where_there_is_none(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    with pytest.raises(EnvironmentProblem, match=r"SS301 .* torch finds none. Nothing was started"):
        run_search(tmp_path / "run", family_dir("llama"), executor={"kind": "local", "gpus_per_worker": 1})
    assert not (tmp_path / "run").exists()


def test_no_feasible_candidate_has_its_own_error(small_run: RunResults, tmp_path: Path) -> None:
    shutil.copytree(small_run.run.path, tmp_path / "run")
    rewritten(tmp_path / "run" / "space.json", lambda space: space.update(limits=["params<=1%"]))
    with pytest.raises(InfeasibleError, match="SS406"):
        RunResults(tmp_path / "run").pick("knee")


def test_bfloat16_where_the_processor_has_it(family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"id": str(family_dir("llama")), "compute_dtype": "fast"}
    monkeypatch.setattr(numerics, "has_bfloat16", lambda device: False)
    assert launched(family_dir("llama"), model=model).dtype == "torch.float32"
    monkeypatch.setattr(numerics, "has_bfloat16", lambda device: True)
    launch = launched(family_dir("llama"), model=model, search=NSGA2 | {"evals": 12})
    assert launch.dtype == "torch.bfloat16"
    results = controller.start(launch, tmp_path / "run", QUIET)
    assert results.dense is not None
    assert results.dense.quality == pytest.approx(0, abs=1e-5), "the teacher computes as candidates do"
    exact = run_search(tmp_path / "exact", family_dir("llama"), search=NSGA2 | {"evals": 12})
    for a in results.final:
        for b in exact.final:
            if a.genome == b.genome and b.quality > 0.01:
                assert a.quality == pytest.approx(b.quality, rel=0.1)


def test_shared_windows_are_refused_unless_asked_for(family_dir: Make) -> None:
    data = recipe("")["data"]
    shared = data | {"selection": data["calibration"]}
    with pytest.raises(InputError, match="SS205 calibration and selection data share samples"):
        launched(family_dir("llama"), data=shared)
    assert launched(family_dir("llama"), data=shared | {"allow_shared": True})


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"objectives": ["kll", "params"]}, "SS102", "Did you mean 'kl'"),
        ({"objectives": ["kl", "param"]}, "SS102", "Did you mean 'params'"),
        ({"objectives": ["kl"]}, "SS102", "need a cost"),
        (
            {"units": [{"kind": "sparsity"}], "objectives": ["kl", "params"]},
            "SS109",
            "Costs that vary: nonzeros, prunable_nonzeros",
        ),
        ({"pruners": {"sparsity": "sparsgpt"}}, "SS102", "Did you mean 'sparsegpt'"),
        ({"pruners": {"width": "magnitud"}}, "SS102", "pruners.width 'magnitud': unknown pruner of elements"),
        ({"search": {"searcher": "evopres"}}, "SS102", "Did you mean 'evopress'"),
        (
            {"search": {"searcher": "evopress", "asynchronous": True}, "limits": ["params<=90%"]},
            "SS114",
            "complete gen",
        ),
        (
            {"search": {"searcher": "nsga2", "tokens": 15}},
            "SS115",
            "search.tokens 15 is less than one evaluation takes",
        ),
    ],
)
def test_unknown_names_get_a_suggestion(family_dir: Make, changes: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        launched(family_dir("llama"), **changes)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_a_run_directory_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"SS600 .* is not a run directory"):
        RunDirectory.open(tmp_path)


def test_python_iterables_as_data_survive_a_resume(family_dir: Make, tmp_path: Path) -> None:
    import sparsesearch as ss

    texts = {
        r: [f"{r} text number {i}, with words of its own\n" for i in range(60)] for r in ("calibration", "selection")
    }
    run = ss.search(recipe(family_dir("llama")), name="mine", results=tmp_path, quiet=True, **texts)
    before = run.results.run.archive.read_bytes()
    assert run.pick("knee") in run.front()
    again = ss.Run.open(tmp_path / "mine").resume()
    assert again.results.run.archive.read_bytes() == before


def test_perplexity_as_the_quality(family_dir: Make, tmp_path: Path) -> None:
    results = run_search(tmp_path / "run", family_dir("llama"), objectives=["perplexity", "bytes"])
    assert results.dense is not None
    assert results.dense.quality == pytest.approx(np.exp(np.mean(results.dense.losses)))
    assert results.dense.quality > 100  # random weights


def test_no_genome_is_measured_twice_on_a_sequence(family_dir: Make, tmp_path: Path) -> None:
    """Later stages and the final measurement only add what earlier ones did not see, and losses stay the same."""
    search = {
        "searcher": "evolution",
        "final": 4,
        "options": {"offspring": 4, "survivors": [2, 1], "tokens": [32, 64], "generations": 3},
    }
    results = run_search(tmp_path / "run", family_dir("llama"), search=search, limits=["params<=90%"])
    measured = sum(e.measured_sequences for e in results.evaluations)
    assert measured < sum(e.sequences for e in results.evaluations)
    assert results.tokens == measured * 16
    by_genome: dict[Any, int] = {}
    for evaluation in results.evaluations:
        by_genome[evaluation.genome] = by_genome.get(evaluation.genome, 0) + evaluation.measured_sequences
    assert max(by_genome.values()) <= results.info["selection_sequences"]
    ledger = [json.loads(line) for line in results.run.ledger.read_text().splitlines()]
    assert sum(entry["tokens"] for entry in ledger if entry["phase"] == "evaluation") == results.tokens
    supernet = open_run(results).supernet
    targets = Teacher(next((tmp_path / ".cache" / "teachers").glob("*/index.npy")).parent)
    evaluator = Evaluator(supernet, targets, supernet.network.task, 4)
    for evaluation in results.final:
        expected = evaluator.losses(evaluation.genome, minibatch(6, 6, 0, 0))
        assert evaluation.losses == pytest.approx(expected.tolist(), abs=1e-5)
