"""Closed-form allocations as seeds and as searchers, and greedy removal of sublayers, on real tiny models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import launched, run_search

from sparsesearch.allocation import ALLOCATIONS
from sparsesearch.engine import controller
from sparsesearch.errors import InputError
from sparsesearch.runs.progress import Reporter
from sparsesearch.space import Genome
from sparsesearch.space.repair import fill

Make = Callable[[str], Path]
SPARSITY: dict[str, Any] = {"units": [{"kind": "sparsity", "levels": 12}], "limits": ["sparsity>=60%"]}


def test_every_allocation_meets_its_budget_exactly(family_dir: Make, tmp_path: Path) -> None:
    search = {"searcher": "random", "seeds": list(ALLOCATIONS), "evals": 30, "options": {"batch": 2, "tokens": 32}}
    results = run_search(tmp_path / "run", family_dir("llama"), search=search, **SPARSITY)
    by_origin = {e.origin: e for e in results.final}
    assert set(ALLOCATIONS) - set(by_origin) <= {"uniform", "uniform_plus", "erk"}  # may coincide with a uniform genome
    space = results.space
    for evaluation in by_origin.values():
        if evaluation.origin == "dense":
            continue
        assert space.feasible(evaluation.genome)
        after = space.excess(space.costs.neighbours(evaluation.genome.levels, -1))
        grows = (after <= 0).all(axis=1) & (evaluation.genome.levels > 0)
        assert not grows.any() or evaluation.origin not in ALLOCATIONS


@pytest.mark.parametrize(
    ("model", "kinds", "limit"),
    [("llama", ["ffn_width", "kv_groups"], "params<=90%"), ("mixtral", ["expert_width"], "params<=90%")],
)
def test_every_allocation_distributes_widths_where_there_is_no_sparsity(
    family_dir: Make, tmp_path: Path, model: str, kinds: list[str], limit: str
) -> None:
    search = {"searcher": "random", "seeds": list(ALLOCATIONS), "evals": 24, "options": {"batch": 2, "tokens": 32}}
    units = [{"kind": kind, "levels": 6} for kind in kinds]
    results = run_search(tmp_path / "run", family_dir(model), search=search, units=units, limits=[limit])
    seeds = {name: Genome.of(levels) for name, levels in results.run.read(results.run.seeds).items()}
    assert {name for name in seeds if "@" not in name} == set(ALLOCATIONS)
    assert len(set(seeds.values())) > 1
    for name, genome in seeds.items():
        assert results.space.feasible(genome)
        assert "@" in name or fill(results.space, genome) == genome


def test_an_allocation_is_a_searcher_and_its_resume_is_the_same(family_dir: Make, tmp_path: Path) -> None:
    search = {"searcher": "allocation:owl"}
    results = run_search(tmp_path / "run", family_dir("llama"), search=search, **SPARSITY)
    assert "owl" in {e.origin for e in results.final}
    archive = results.run.archive.read_text()
    results.run.archive.write_text("\n".join(archive.splitlines()[:1]) + "\n")
    controller.resume(results.run.path, {}, Reporter(quiet=True))
    assert results.run.archive.read_text() == archive


def test_without_limits_an_allocation_covers_several_sizes(family_dir: Make, tmp_path: Path) -> None:
    results = run_search(
        tmp_path / "run", family_dir("gpt2"), units=SPARSITY["units"], search={"searcher": "allocation:lamp"}
    )
    nonzeros = sorted(e.costs["nonzeros"] for e in results.evaluations if e.origin.startswith("lamp@"))
    assert len(nonzeros) == 8
    assert len(set(nonzeros)) == 8


def test_gradients_reach_pruners_and_allocations(family_dir: Make, tmp_path: Path) -> None:
    units = [{"kind": "sparsity", "levels": ["50%"]}, {"kind": "ffn_width", "levels": 2}]
    search = {"searcher": "random", "evals": 4, "seeds": ["ecoflap"], "options": {"batch": 2, "tokens": 16}}
    for sparsity, width in (("gblm", "taylor"), ("taylor", "flap")):
        results = run_search(
            tmp_path / f"{sparsity}-{width}",
            family_dir("gpt2"),
            units=units,
            search=search,
            pruners={"sparsity": sparsity, "width": width},
        )
        assert all(np.isfinite(e.quality) for e in results.final)


def test_finercut_drops_one_sublayer_after_another(family_dir: Make, tmp_path: Path) -> None:
    units = [{"kind": "drop_attention"}, {"kind": "drop_ffn"}]
    results = run_search(
        tmp_path / "run", family_dir("llama"), units=units, search={"searcher": "finercut", "options": {"tokens": 32}}
    )
    dropped = [int(e.genome.levels.sum()) for e in results.evaluations if e.origin == "finercut"]
    assert dropped[:6] == [1] * 6
    assert dropped[6:11] == [2] * 5
    assert max(dropped) == 6


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"search": {"seeds": ["owls"]}}, "SS102", "Did you mean 'owl'"),
        ({"search": {"searcher": "allocation:owls"}}, "SS102", "Did you mean 'allocation:owl'"),
        ({"units": [{"kind": "drop_ffn"}], "search": {"seeds": ["owl"]}}, "SS111", "units of either"),
        ({"search": {"searcher": "finercut"}}, "SS111", "no units of that kind"),
    ],
)
def test_mistakes_get_one_line(family_dir: Make, changes: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        launched(family_dir("llama"), **changes)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
