"""From recipes to units: levels, exactness, and what a wrong recipe is told."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import launched

from sparsesearch.errors import InputError
from sparsesearch.space import Genome

Make = Callable[[str], Path]


def units(make: Make, **unit: Any) -> list[tuple[str, tuple[int, ...]]]:
    space = launched(make("llama"), units=[unit]).space
    return [(u.name, u.levels) for u in space.units]


def test_sparsity_levels_round_down_so_that_uniform_meets_its_limit(family_dir: Make) -> None:
    space = launched(
        family_dir("llama"), units=[{"kind": "sparsity", "levels": ["70%", "80%"]}], limits=["sparsity>=70%"]
    ).space
    assert space.feasible(Genome.of([1] * len(space.units)))
    kept = sum(u.levels[1] for u in space.units)
    assert space.prunable * 0.3 - len(space.units) < kept <= space.prunable * 0.3


def test_a_grid_has_equal_steps_in_every_unit(family_dir: Make) -> None:
    pairs = units(family_dir, kind="sparsity", levels={"around": "70%", "radius": 3, "step": 20})
    for _, levels in pairs:
        steps = {a - b for a, b in itertools.pairwise(levels[1:])}
        assert steps == {20}
        assert len(levels) == 8


def test_the_grids_default_step_is_evopresss(family_dir: Make) -> None:
    pairs = units(family_dir, kind="sparsity", levels={"around": "70%", "radius": 8}, target="*.down_proj")
    levels = pairs[0][1]
    assert levels[1] - levels[2] == int(0.5 * 0.3 / 8 * 32**2)


def test_width_levels_are_aligned_and_reach_both_ends(family_dir: Make) -> None:
    pairs = units(family_dir, kind="ffn_width", levels=4, min_kept="25%", align=4)
    assert [levels for _, levels in pairs] == [(48, 40, 32, 24, 12)] * 3


def test_kv_groups_default_to_every_count(family_dir: Make) -> None:
    assert units(family_dir, kind="kv_groups")[0][1] == (4, 3, 2, 1)


def test_query_heads_keep_equally_many_in_every_group(family_dir: Make) -> None:
    assert units(family_dir, kind="q_heads")[0][1] == (2, 1)


def test_protected_blocks_have_no_units(family_dir: Make) -> None:
    assert [name for name, _ in units(family_dir, kind="drop_ffn", protect=[0, -1])] == ["model.layers.1.mlp.drop_ffn"]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"units": [{"kind": "ffn_width", "target": "layers.*.mpl"}]}, "SS103", "matched 0 of 3 modules"),
        ({"units": [{"kind": "ffn_width", "target": "layers.*.mpl"}]}, "SS103", "Nearest: model.layers."),
        ({"units": [{"kind": "ffn_width", "protect": [7]}]}, "SS103", "7 is not a block; the model has 3"),
        (
            {"units": [{"kind": "ffn_width", "levels": [0.55], "align": 8}]},
            "SS104",
            "0.55 x 48 = 26.4 is not a multiple",
        ),
        ({"units": [{"kind": "ffn_width", "levels": [0.55], "align": 8}]}, "SS104", "Use 0.5 (24) or 0.6667 (32)"),
        ({"units": [{"kind": "kv_groups", "levels": [0.3]}]}, "SS104", "not a multiple of align=1"),
        ({"units": [{"kind": "ffn_width", "levels": [0]}]}, "SS104", "keeps nothing"),
        ({"units": [{"kind": "kv_groups"}], "limits": ["params<=20%"]}, "SS106", "cannot be met"),
        ({"units": [{"kind": "kv_groups"}], "limits": ["params<=20%"]}, "SS106", "which keeps 1 of 4, and"),
        (
            {"units": [{"kind": "sparsity", "levels": ["70%"]}], "limits": ["sparsity>=70%"]},
            "SS108",
            "leaves one genome",
        ),
        ({"units": [{"kind": "kv_groups"}, {"kind": "kv_groups", "target": "*.1.*"}]}, "SS107", "both set kv_groups"),
        (
            {"units": [{"kind": "kv_groups"}, {"kind": "q_heads", "target": "*.1.*"}]},
            "SS107",
            "both cut model.layers.1",
        ),
        ({"units": [{"kind": "ffn_width", "levels": [1.0]}]}, "SS108", "one genome"),
    ],
)
def test_wrong_recipes_get_one_line(family_dir: Make, changes: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        launched(family_dir("llama"), **changes)
    assert caught.value.code == code
    assert words in str(caught.value)
