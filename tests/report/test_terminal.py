"""What the terminal shows of a candidate, whatever the number of its units."""

from __future__ import annotations

import pytest
from rich.console import Console

from sparsesearch.report.terminal import block_bars, front_table, unit_bars
from sparsesearch.report.texts import cost_text
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome, Space, Unit

LINEARS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


def _space(blocks: int, more: tuple[Unit, ...] = ()) -> Space:
    units = [Unit(f"layers.{b}.{n}", "sparsity", b, 100, (100, 50, 0)) for b in range(blocks) for n in LINEARS]
    return Space((*units, *more), (), 2, ())


def _candidate(space: Space, level: int = 1) -> Evaluation:
    levels = [0] * len(space.units)
    levels[0] = level
    return Evaluation(Genome.of(levels), 1, 0, "move", "ok", 0.5, {})


def _lines(table: object, width: int) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_32_blocks_of_7_units_fit_on_a_screen(width: int) -> None:
    space = _space(32)
    lines = _lines(block_bars(space, _candidate(space), width), width)
    assert len(lines) == 3 + 32 + 2, "title, head, rule; a line a block; a gap and the means"
    assert "50%" in lines[3]
    assert lines[3].count("100%") == 6
    assert max(map(len, lines)) <= width


def test_what_is_dropped_has_no_bar_and_what_is_hardly_kept_has_one() -> None:
    space = _space(2)
    assert "█ " not in _lines(block_bars(space, _candidate(space, 2), 80), 80)[3].split("0%")[0]
    tiny = Space((Unit("layers.0.mlp", "ffn_width", 0, 1000, (1000, 1)),), (), 2, ())
    assert "▏" in _lines(unit_bars(tiny, _candidate(tiny)), 80)[4]


def test_units_that_no_grid_can_show_are_listed() -> None:
    space = _space(2, (Unit("layers.0.other.q_proj", "sparsity", 0, 10, (10, 5)),))
    assert block_bars(space, _candidate(space), 80) is None, "two of one name in a block"
    assert block_bars(_space(2), _candidate(_space(2)), 60) is None, "too narrow"


def test_nanoseconds_are_shown_as_milliseconds() -> None:
    assert cost_text("latency_ns", 1_234_000) == "1.23 ms"
    assert cost_text("params", 1_234_000) == "1.23M"


def test_ids_are_whole_in_a_narrow_table(small_run: RunResults) -> None:
    shown = "\n".join(_lines(front_table(small_run, list(small_run.front), "narrow"), 44))
    assert all(e.genome.id in shown for e in [*small_run.front, *small_run.baselines])
