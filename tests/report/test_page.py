"""Reports as a browser shows them: nothing from elsewhere, hover, click, dark, narrow."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import as_if_running

from sparsesearch.report.facts import layers
from sparsesearch.report.pages.run_page import write_report
from sparsesearch.report.pages.runs_page import write_runs_page
from sparsesearch.runs.results import RunResults


def kept_on_screen(page: Any) -> list[list[float]]:
    """What the chart of layers shows, by row."""
    rows: list[list[float]] = page.evaluate(
        "document.getElementById('layers').data.filter((t) => t.name === 'kept').map((t) => t.y)"
    )
    return rows


@pytest.mark.parametrize("offline", [False, True], ids=["beside plotly", "one file"])
def test_hover_names_the_genome_and_a_click_shows_its_layers(
    own_run: RunResults, opened: Any, tmp_path: Path, offline: bool
) -> None:
    path = write_report(own_run, offline)
    if offline:
        (tmp_path / "alone").mkdir()
        path = Path(shutil.move(path, tmp_path / "alone" / "report.html"))
    shown = opened(path)
    assert shown.panel.startswith("knee"), "something is shown before the first click"

    for trace, among in (("front", own_run.front), ("uniform", own_run.baselines)):
        by_id = {e.genome.id: e.genome for e in among}
        key, place = shown.front_point(0, trace)
        shown.page.mouse.move(*place)
        shown.page.wait_for_selector(".hoverlayer .hovertext")
        assert key in shown.page.text_content(".hoverlayer")
        shown.page.mouse.click(*place)
        shown.page.wait_for_function("(key) => document.getElementById('candidate').dataset.shown === key", arg=key)
        assert key in shown.panel
        expected = layers(own_run.space, by_id[key])
        np.testing.assert_allclose(np.array(kept_on_screen(shown.page), dtype=float), expected.kept)

    last = own_run.front[-1].genome.id
    shown.page.click(f"button.link[data-key='{last}']")
    assert last in shown.panel, "from the table too"
    known = shown.page.evaluate("Object.keys(JSON.parse(document.getElementById('candidates').textContent).candidates)")
    assert {e.genome.id for e in own_run.final} <= set(known)
    assert shown.wrong == []


def test_what_lies_behind_a_marker_does_not_take_its_clicks(own_run: RunResults, opened: Any) -> None:
    shown = opened(write_report(own_run))
    shown.page.evaluate(
        """() => {
            const figure = document.querySelector('.js-plotly-plot');
            const front = figure.data.find((trace) => trace.name === 'front');
            Plotly.restyle(figure, {x: [front.x], y: [front.y], customdata: [front.x.map(() => 'another')]}, [0]);
        }"""
    )
    for number in range(len(own_run.front)):
        key, place = shown.front_point(number)
        shown.page.mouse.move(*place)
        shown.page.wait_for_function(
            "(key) => document.querySelector('.hoverlayer').textContent.includes(key)", arg=key
        )
    assert shown.wrong == []


def test_dark_and_light_narrow_and_sorted(own_run: RunResults, opened: Any) -> None:
    shown = opened(write_report(own_run), color_scheme="light")

    def is_dark() -> bool:
        page, text = shown.brightness()
        assert (page < 60, page > 200) == (text > 180, text < 60), "text stands out"
        return page < 60

    assert not is_dark()
    shown.page.emulate_media(color_scheme="dark")
    shown.page.wait_for_function("() => document.querySelector('button.theme').textContent === 'Light'")
    assert is_dark(), "the system's theme"
    shown.page.click("button.theme")
    assert not is_dark(), "the reader's own"
    shown.page.click("button.theme")
    assert is_dark()

    shown.page.set_viewport_size({"width": 400, "height": 800})
    # Nothing sticks out, once figures have followed.
    shown.page.wait_for_function("() => document.documentElement.scrollWidth === 400")
    column = "[...document.querySelector('table').tBodies[0].rows].map((row) => parseFloat(row.cells[2].textContent))"
    for falls in (False, True):
        shown.page.click("th:has-text('kl')")
        assert shown.page.evaluate(column) == sorted(shown.page.evaluate(column), reverse=falls)
    assert shown.wrong == []


def test_several_runs_on_one_page(own_run: RunResults, opened: Any, tmp_path: Path) -> None:
    shutil.copytree(own_run.run.path, tmp_path / "a <b> & 'c'")
    other = RunResults(tmp_path / "a <b> & 'c'")
    shown = opened(write_runs_page([own_run, other], tmp_path / "both.html"))
    key, place = shown.front_point(0, "a &lt;b&gt; &amp; 'c'")
    assert key == f"1:{other.front[0].genome.id}"
    shown.page.mouse.click(*place)
    shown.page.wait_for_function("(key) => document.getElementById('candidate').dataset.shown === key", arg=key)
    assert other.run.path.name in shown.panel
    expected = layers(other.space, other.front[0].genome)
    np.testing.assert_allclose(np.array(kept_on_screen(shown.page), dtype=float), expected.kept)
    assert shown.wrong == []


def test_a_report_before_the_search_has_ended(own_run: RunResults, opened: Any) -> None:
    lines = own_run.run.archive.read_text().splitlines(keepends=True)
    own_run.run.archive.write_text("".join(lines[:3]))
    as_if_running(own_run.run.path)
    shown = opened(write_report(RunResults(own_run.run.path)))
    assert "No final measurements yet" in shown.page.inner_text("body")
    assert shown.wrong == []
