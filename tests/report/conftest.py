"""A headless Chromium where this machine has one, and copies of runs to write reports into."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparsesearch.runs.results import RunResults

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Beginnings of addresses that need no network.
LOCAL = ("file://", "data:", "blob:")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser; tests are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Opened:
    """A page from a file, and what went wrong in it."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page, self.wrong = page, list[str]()
        page.on("console", lambda entry: self.wrong.append(entry.text) if entry.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("requestfailed", lambda request: self.wrong.append(request.url))
        page.on("request", lambda fetch: None if fetch.url.startswith(LOCAL) else self.wrong.append(fetch.url))
        page.goto(path.as_uri())
        page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .plot-container').length > 0")

    @property
    def panel(self) -> str:
        """Which candidate is shown."""
        return str(self.page.inner_text("#candidate h3"))

    def front_point(self, number: int, trace: str = "front") -> tuple[str, tuple[float, float]]:
        """The key of a point of a trace of the first figure, and where it is on the screen."""
        key, x, y = self.page.evaluate(
            """([name, number]) => {
                const figure = document.querySelector('.js-plotly-plot');
                figure.scrollIntoView({block: 'center'});
                const at = figure.data.findIndex((trace) => trace.name === name);
                const box = figure.querySelectorAll('.scatterlayer .trace')[at]
                    .querySelectorAll('.point')[number].getBoundingClientRect();
                return [figure.data[at].customdata[number], box.x + box.width / 2, box.y + box.height / 2];
            }""",
            [trace, number],
        )
        return key, (x, y)

    def brightness(self) -> tuple[float, float]:
        """Of the page and of the text of its first figure, each in [0, 255]."""
        page, text = self.page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " document.querySelector('.js-plotly-plot').layout.font.color]"
        )
        return _brightness(page), _brightness(text)


def _brightness(colour: str) -> float:
    """Of a colour that is written as rgb(r, g, b)."""
    return sum(map(int, colour[colour.index("(") + 1 : -1].split(",")[:3])) / 3


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a page of a file; options go to the browser (`color_scheme`, `viewport`)."""
    pages: list[Any] = []

    def open_(path: Path, **options: Any) -> Opened:
        pages.append(chromium.new_page(**options))
        return Opened(pages[-1], path)

    yield open_
    for page in pages:
        page.close()


@pytest.fixture
def own_run(small_run: RunResults, tmp_path: Path) -> RunResults:
    """A copy of the small run, to write into."""
    shutil.copytree(small_run.run.path, tmp_path / "run", ignore=shutil.ignore_patterns("exports.jsonl"))
    return RunResults(tmp_path / "run")
