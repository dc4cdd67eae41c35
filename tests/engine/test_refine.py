"""Coarse to fine: levels around a front, from the statistics that are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import launched, run_search
from typer.testing import CliRunner

from sparsesearch.cli import app
from sparsesearch.errors import InputError
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation

Make = Callable[[str], Path]
UNITS = [{"kind": "sparsity", "target": "mlp.*", "levels": 4}, {"kind": "ffn_width", "levels": 4, "align": 8}]


@pytest.fixture(scope="module")
def coarse(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_search(tmp_path_factory.mktemp("refine") / "coarse", family_dir("llama"), units=UNITS)


def test_levels_half_way_around_the_front_and_both_ends(coarse: RunResults, family_dir: Make) -> None:
    fine = launched(family_dir("llama"), units=UNITS, refines=str(coarse.run.path)).space
    assert [u.name for u in fine.units] == [u.name for u in coarse.space.units]
    for i, (before, after) in enumerate(zip(coarse.space.units, fine.units, strict=True)):
        used = {int(e.genome.levels[i]) for e in coarse.front}
        assert {before.levels[0], before.levels[-1], *(before.levels[j] for j in used)} <= set(after.levels)
        between = set(after.levels) - set(before.levels)
        assert between or before.kind == "ffn_width"  # multiples of 8 may have nothing between them
        for kept in between:
            below = max(j for j in before.levels if j < kept)
            above = min(j for j in before.levels if j > kept)
            assert abs(kept - (below + above) / 2) <= (4 if before.kind == "ffn_width" else 0.5)
            assert {below, above} & {before.levels[j] for j in used}
        if before.kind == "ffn_width":
            assert all(kept % 8 == 0 for kept in after.levels)


def test_a_refined_run_measures_its_seeds_as_the_coarse_one_did_and_calibrates_nothing(coarse: RunResults) -> None:
    statistics = sorted((coarse.run.path.parent / ".cache" / "statistics").rglob("*"))
    before = [path.stat().st_mtime_ns for path in statistics]
    ended = CliRunner().invoke(app, ["refine", str(coarse.run.path), "--evals", "30"])
    assert ended.exit_code == 0, ended.output
    fine = RunResults(coarse.run.path.with_name("coarse-fine"))
    assert [path.stat().st_mtime_ns for path in statistics] == before
    assert sorted((coarse.run.path.parent / ".cache" / "statistics").rglob("*")) == statistics
    assert any(e.origin.startswith("coarse ") for e in fine.evaluations)

    def by_levels(results: RunResults) -> dict[tuple[int, ...], float]:
        return {kept(results, e): e.quality for e in results.final}

    same = by_levels(coarse).keys() & by_levels(fine).keys()
    assert len(same) >= 3
    for levels in same:
        assert by_levels(fine)[levels] == pytest.approx(by_levels(coarse)[levels], rel=1e-4, abs=1e-7)
    tried = {kept(fine, e) for e in fine.evaluations}
    assert {kept(coarse, e) for e in coarse.front} <= tried


def kept(results: RunResults, evaluation: Evaluation) -> tuple[int, ...]:
    levels = evaluation.genome.levels
    return tuple(unit.levels[i] for unit, i in zip(results.space.units, levels, strict=True))


def test_what_cannot_be_refined(coarse: RunResults, family_dir: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"SS600 .* is not a run directory"):
        launched(family_dir("llama"), refines=str(tmp_path))
    with pytest.raises(InputError, match=r"SS602 .* is a run of another model"):
        launched(family_dir("qwen2"), refines=str(coarse.run.path))
    front = coarse.run.front.read_bytes()
    coarse.run.front.unlink()
    with pytest.raises(InputError, match=r"SS600 .* has no front yet"):
        launched(family_dir("llama"), units=UNITS, refines=str(coarse.run.path))
    coarse.run.front.write_bytes(front)


def test_a_pattern_has_nothing_between_its_levels(family_dir: Make, tmp_path: Path) -> None:
    changes = {
        "units": [{"kind": "sparsity", "levels": ["50%"]}],
        "pruners": {"sparsity": "magnitude", "pattern": "2:4"},
    }
    changes |= {"objectives": ["kl", "nonzeros"]}
    results = run_search(tmp_path / "run", family_dir("llama"), **changes)
    fine = launched(family_dir("llama"), refines=str(results.run.path), **changes).space
    assert fine.units == results.space.units


def test_rounds_follow_one_another_and_go_on_where_they_were_stopped(coarse: RunResults) -> None:
    command = ["refine", str(coarse.run.path), "--name", "rounds", "--evals", "20"]
    ended = CliRunner().invoke(app, [*command, "--rounds", "2"])
    assert ended.exit_code == 0, ended.output
    place = coarse.run.path.parent
    first, second = (RunResults(place / name) for name in ("rounds", "rounds-2"))
    assert [r.info["fingerprint"]["weights"] for r in (first, second)] == [coarse.info["fingerprint"]["weights"]] * 2
    for before, after in ((coarse, first), (first, second)):
        for i, unit in enumerate(before.space.units):
            assert {unit.levels[int(e.genome.levels[i])] for e in before.front} <= set(after.space.units[i].levels)
    archive = (first.run.archive.stat().st_mtime_ns, second.run.archive.read_bytes())
    ended = CliRunner().invoke(app, [*command, "--rounds", "3"])
    assert ended.exit_code == 0, ended.output
    assert (first.run.archive.stat().st_mtime_ns, second.run.archive.read_bytes()) == archive
    assert (place / "rounds-3" / "front.json").exists()
    ended = CliRunner().invoke(app, [*command, "--rounds", "3"])
    assert ended.exit_code == 0, ended.output
