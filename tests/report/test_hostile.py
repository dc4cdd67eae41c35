"""Runs of somebody else's: whatever their names are, nothing is rendered, obeyed or raised."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from sparsesearch.cli import app
from sparsesearch.errors import DamagedFile, SparseSearchError
from sparsesearch.export.card import model_card
from sparsesearch.media import markdown
from sparsesearch.report.pages.notebook import run_html
from sparsesearch.report.pages.png import write_figures, write_png
from sparsesearch.report.pages.run_page import write_report
from sparsesearch.report.pages.runs_page import write_runs_page
from sparsesearch.runs.results import RunResults

PWN = "document.documentElement.dataset.pwned=1"
NAME = f"<img src=x onerror={PWN}>"
# Ends attributes, elements, templates, mathematics, tables and lines.
WORSE = (
    f"{NAME}</script><script>{PWN}</script>\"'><svg onload={PWN}> [x](javascript:{PWN})"
    f" <a href='javascript:{PWN}'>y</a>"
    f" {{{{7*7}}}} ${{{PWN}}} %{{x}} $\\frac{{ | `{NAME}` [bold]b[/b] \u2028 \u202e \x1b]0;owned\x07 \n new"
)
JUNK = [None, True, -1, 1.5, "x", [], {}, [1], {"a": 1}, 10**400, "\ud800"]
TERMINAL = ["[bold]x[/bold]", "[/b]", "a\x1b]0;owned\x07\x1b[31m", "b\u202egnp", "c\nd", "e\udc80", ":smile:"]


def _rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON object, or each of JSON lines; without their checksums they are read as they are."""
    lines = path.suffix == ".jsonl"
    texts = path.read_text().splitlines() if lines else [path.read_text()]
    contents = [json.loads(text) for text in texts]
    for data in contents:
        data.pop("checksum", None)
        data.pop("crc32", None)
        change(data)
    path.write_text("".join(json.dumps(data) + "\n" for data in contents))


def _everything(info: dict[str, Any]) -> None:
    info["model"] = info["task"] = WORSE
    info["objectives"][0] = WORSE
    info["fingerprint"]["searcher"] = info["versions"]["sparsesearch"] = WORSE


def _renamed(data: Any, new: dict[str, str]) -> Any:
    if isinstance(data, dict):
        return {key: _renamed(each, new) for key, each in data.items()}
    return [_renamed(each, new) for each in data] if isinstance(data, list) else new.get(str(data), data)


def _lines(path: Path, *lines: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def hostile(small_run: RunResults, tmp_path: Path) -> RunResults:
    """A finished run, all of whose texts are somebody else's."""
    path = tmp_path / NAME.replace("/", "")
    shutil.copytree(small_run.run.path, path)
    run = RunResults(path).run
    chosen = small_run.pick("knee")

    def line(data: dict[str, Any]) -> None:
        data["origin"] = data["error"] = f"{data['origin']} {WORSE}"

    def units(data: dict[str, Any]) -> None:
        new = {}
        for unit in data["units"]:
            module = f"{unit['module']}.{WORSE.replace('.', ',')}"
            new[f"{unit['module']}.{unit['kind']}"] = f"{module}.{unit['kind']}"
            unit["module"] = module
        data["parts"] = _renamed(data["parts"], new)

    _rewrite(run.info, _everything)
    _rewrite(run.archive, line)
    _rewrite(run.ledger, lambda data: data.update(phase=WORSE))
    _rewrite(run.space, units)
    _lines(run.exports, {"id": chosen.genome.id, "form": WORSE, "out": WORSE, "verified": [WORSE], "when": WORSE})
    run.screen.write_text(json.dumps({"proxy": WORSE, "tau": 0.5, "tau_range": [0.2, 0.7], "candidates": 40}))
    timing = {"measured_ns": 10, "measured_bytes": 10, "predicted_ns": 9, "predicted_bytes": 9}
    setting = {
        "device": WORSE,
        "hardware": WORSE,
        "batch": 1,
        "prompt": 8,
        "generated": 0,
        "dtype": WORSE,
        "threads": 1,
    }
    run.latency_measured.write_text(json.dumps({"setting": setting, "dense": timing, WORSE: timing}))
    audit = path.parent / f"{NAME} '#?%41"
    audit.mkdir()
    for file in (run.space, run.info):
        shutil.copy(file, audit)
    proxies = {WORSE: {"tau": 0.6, "tau_range": [0.5, 0.7], "control": False}}
    (audit / "audit.json").write_text(json.dumps({"quality": WORSE, "limits": [WORSE], "proxies": proxies}))
    return RunResults(path)


def _assert_harmless(shown: Any) -> None:
    """Draws, is clicked, sorted and hovered everywhere, and runs no script but its own."""
    page, dialogs = shown.page, list[str]()
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    figures = page.evaluate("document.querySelectorAll('script.figure').length")
    assert page.evaluate("document.querySelectorAll('.js-plotly-plot .main-svg').length") >= figures > 0
    for summary in page.query_selector_all("summary"):
        summary.click()
    for head in page.query_selector_all("th"):
        head.click()
        head.press("Enter")
    page.evaluate("for (const one of document.querySelectorAll('button[data-key]')) one.click()")
    page.wait_for_timeout(300)
    page.evaluate(
        """() => {
            for (const figure of document.querySelectorAll('.js-plotly-plot')) {
                figure.data.forEach((trace, curveNumber) => (trace.x || []).forEach((_, pointNumber) => {
                    if (trace.hoverinfo !== 'skip') Plotly.Fx.hover(
                        figure, [{curveNumber, pointNumber}], (trace.xaxis || 'x') + (trace.yaxis || 'y'));
                }));
                const keys = figure.data.flatMap((trace) => trace.customdata || []);
                for (const key of keys) figure.emit('plotly_click', {points: [{customdata: key}]});
            }
        }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.dataset.pwned") is None
    assert (
        page.evaluate(
            "document.querySelectorAll('body img, body script[src], svg[onload], a[href^=javascript]').length"
        )
        == 0
    )
    links = page.evaluate("[...document.querySelectorAll('svg a')].length")
    assert (links, dialogs, shown.wrong) == (0, [], [])


@pytest.mark.parametrize("offline", [False, True], ids=["beside plotly", "one file"])
def test_nothing_of_a_hostile_run_is_rendered(hostile: RunResults, opened: Any, offline: bool) -> None:
    path = write_report(hostile, offline)
    text = path.read_text(encoding="utf-8")
    assert "<img" not in text.split("<body>")[1].rpartition("<script>")[0]
    shown = opened(path)
    assert shown.page.inner_text("h1") == hostile.run.path.name
    assert NAME in shown.page.inner_text("header p"), "as it is"
    assert NAME in shown.page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].map((f) => f.textContent).join()"
    )
    assert {"Exports", "Proxies"} <= set(
        shown.page.evaluate("[...document.querySelectorAll('h2')].map((h) => h.textContent)")
    )
    _assert_harmless(shown)


def test_the_policy_holds_where_escaping_would_not(own_run: RunResults, opened: Any) -> None:
    path = write_report(own_run)
    path.write_text(path.read_text().replace("<h1>", f"{NAME}<script>{PWN}</script><h1>"))
    shown = opened(path)
    assert shown.page.evaluate("document.documentElement.dataset.pwned") is None
    assert any("Content Security Policy" in problem for problem in shown.wrong)


def test_hostile_runs_compared(hostile: RunResults, opened: Any, tmp_path: Path) -> None:
    shutil.copytree(hostile.run.path, tmp_path / "other" / hostile.run.path.name)
    other = RunResults(tmp_path / "other" / hostile.run.path.name)
    _assert_harmless(opened(write_runs_page([hostile, other], tmp_path / "both.html")))


def test_pictures_and_notebooks_of_a_hostile_run(hostile: RunResults) -> None:
    assert all(path.stat().st_size for path in [*write_png(hostile), *write_figures(hostile)])
    for shown in (run_html(hostile), hostile.front[0]._repr_html_()):
        assert "<img src=x" not in shown and "<svg" not in shown


def test_the_card_of_a_hostile_run(hostile: RunResults) -> None:
    report = {"form": "uneven", "why": WORSE, "verified": [WORSE], "max_abs_logit_diff": 0.0, "notes": [WORSE]}
    card = model_card(report, {"task": "causal", "classes": [], "inputs": [WORSE]}, hostile, hostile.pick("knee"))
    body = card.split("---\n", 2)[2]
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    inside = [child for token in tokens for child in token.children or []]
    kinds = {token.type for token in [*tokens, *inside]}
    assert not kinds & {"html_block", "html_inline", "link_open", "em_open", "strong_open", "blockquote_open"}
    assert [child.attrs["src"] for child in inside if child.type == "image"] == ["front.png"]
    assert [child.content for child in inside if child.type == "code_inline"] == ["uneven"]
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", *["h2"] * 5]
    assert f"# {markdown(WORSE)}, pruned" in body and "&lt;img src=x" in body


def test_ordinary_words_stay_themselves_in_markdown() -> None:
    text = "kl 0.1234 on selection data after 1,000 tokens (dense 0), q_proj 50.0% of the weights"
    assert markdown(text) == text
    assert markdown("a|b\n<i> *x* `y` [l](u)") == "a\\|b\\\\n&lt;i&gt; \\*x\\* \\`y\\` \\[l\\](u)"


def _invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), standalone_mode=False)


@pytest.mark.parametrize("name", TERMINAL)
@pytest.mark.parametrize("verb", ["front", "show", "status", "report"])
def test_names_reach_the_terminal_as_they_are(small_run: RunResults, tmp_path: Path, verb: str, name: str) -> None:
    path = tmp_path / name.replace("/", "∕")
    shutil.copytree(small_run.run.path, path)
    _rewrite(path / "archive.jsonl", lambda line: line.update(origin=f"{line['origin']}{name}"))
    done = _invoke(verb, path)
    assert done.exception is None, done.exception
    assert not any(c in done.output for c in "\x1b\x07\u202e\udc80😄")
    shown = "".join(done.output.split())
    assert verb == "show" or path.name.encode("unicode_escape").decode("ascii") in shown or path.name in shown
    if verb in ("front", "show", "status"):
        contents = json.loads(_invoke(verb, path, "--json").output)
        assert verb == "show" or contents["run"] == str(path)


SIDES = ["exports.jsonl", "screen.json", "latency_measured.json"]
CORE = ["run.json", "space.json", "archive.jsonl", "ledger.jsonl", "progress.json"]


@pytest.mark.parametrize("file", CORE)
def test_odd_values_are_one_line_that_names_the_file(own_run: RunResults, file: str) -> None:
    """Every key of every object, one after the other, with values of other types."""
    path = own_run.run.path / file
    original = path.read_text()
    first = json.loads(original.splitlines()[0] if path.suffix == ".jsonl" else original)
    for number, key in enumerate(first):
        for junk in JUNK[number % 4 :: 4]:
            _rewrite(path, lambda data, key=key, junk=junk: data.update({key: junk}))
            done = _invoke("status", own_run.run.path)
            if done.exception is not None:
                assert isinstance(done.exception, SparseSearchError), (key, junk, done.exception)
                assert key == "kind" or (done.exception.code == "SS601" and file in str(done.exception)), (key, junk)
            path.write_text(original)


@pytest.mark.parametrize("file", SIDES)
def test_decorations_that_are_odd_are_left_out(hostile: RunResults, file: str) -> None:
    path = hostile.run.path / file
    _rewrite(path, lambda data: data.update(dict.fromkeys(data, 10**400)))
    text = write_report(hostile).read_text()
    assert f"{file} is damaged" in text and "The front" in text


def test_odd_test_values_are_one_line(own_run: RunResults) -> None:
    own_run.run.test.write_text(json.dumps({own_run.front[0].genome.id: "x"}))
    with pytest.raises(DamagedFile, match=r"test\.json"):
        write_report(own_run)
