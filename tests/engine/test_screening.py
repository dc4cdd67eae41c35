"""Screens of a run: they are checked against measurements first, count against the budget, and survive a crash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support import launched, recipe, run_search
from typer.testing import CliRunner

from sparsesearch.cli import app
from sparsesearch.engine import controller
from sparsesearch.errors import InputError
from sparsesearch.proxies import PROXIES, proxy
from sparsesearch.proxies.score_table import ScoreTable
from sparsesearch.runs.progress import Reporter

Make = Callable[[str], Path]
UNITS = {"units": [{"kind": "sparsity", "levels": ["40%", "75%", "97%"]}]}
SCREEN = {"proxy": "output_error", "children": 3, "candidates": 16, "tokens": 64}


def search(screen: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    options = {"batch": 8, "tokens": 32, "sizes": 2}
    settings = {
        "searcher": "random",
        "evals": 36,
        "final": 4,
        "options": options,
        "screen": None if screen is None else SCREEN | screen,
    }
    return UNITS | {"search": settings | changes}


@pytest.fixture
def against() -> Any:
    """A proxy that prefers what prunes most of a matrix, relative to it: at equal cost it is wrong."""

    def score(matrix: Any) -> float:
        """Minus the output error."""
        return -PROXIES["output_error"].score(matrix)

    with PROXIES.restored():
        proxy("against", reads="matrix")(score)
        yield "against"


def test_a_trusted_proxy_screens_and_a_killed_run_goes_on(family_dir: Make, tmp_path: Path) -> None:
    results = run_search(tmp_path / "run", family_dir("llama"), **search({}))
    known = json.loads(results.run.screen.read_text())
    assert known["tau"] >= 0.3
    table = ScoreTable(results.space, known["levels"], known["dropped"])
    sample = [e for e in results.evaluations if e.origin == "sample"]
    assert len(sample) == 16
    assert len([e for e in results.evaluations if e.origin in ("sample", "random")]) <= 36, "the sample is paid for"
    # Among what is about as large, children that were chosen score better than those that chance drew.
    blind = run_search(tmp_path / "blind", family_dir("llama"), **search({"unscreened": 1.0}))
    means = []
    for run in (results, blind):
        drawn = [e.genome for e in run.evaluations if e.origin == "random"]
        size = np.array([run.space.costs.named(g.levels)["nonzeros"] for g in drawn], dtype=float)
        scores = np.log(table.scores(np.array([g.levels for g in drawn])))
        means.append((scores, size))
    slope = np.polyfit(np.concatenate([m[1] for m in means]), np.concatenate([m[0] for m in means]), 1)
    rest = [float(np.mean(scores - np.polyval(slope, size))) for scores, size in means]
    assert rest[0] < rest[1]
    path = tmp_path / "again"
    shutil.copytree(results.run.path, path)
    archive = results.run.archive.read_bytes()
    lines = archive.splitlines(keepends=True)
    (path / "archive.jsonl").write_bytes(b"".join(lines[:10]) + lines[10][:40])
    controller.resume(path, {}, Reporter(quiet=True))
    assert (path / "archive.jsonl").read_bytes() == archive


def test_a_proxy_that_is_wrong_screens_nothing(
    family_dir: Make, tmp_path: Path, against: str, capsys: pytest.CaptureFixture[str]
) -> None:
    launch = launched(family_dir("llama"), **search({"proxy": against}))
    results = controller.start(launch, tmp_path / "run", Reporter())
    assert json.loads(results.run.screen.read_text())["tau"] < 0.3
    assert "SS409 proxy against does not screen children: its Kendall tau is -" in capsys.readouterr().err
    # It then searches as if there were none, but for what the look has cost.
    plain = run_search(tmp_path / "plain", family_dir("llama"), **search(None))
    drawn = [[e.genome for e in r.evaluations if e.origin == "random"] for r in (results, plain)]
    assert drawn[0] == drawn[1][: len(drawn[0])]


def test_compare_asks_at_every_checkpoint_what_the_run_would_have_known(family_dir: Make, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    tree = recipe(family_dir("llama"), **search({}), limits=["nonzeros<=85%"])
    tree["search"] = {"searcher": "random", "screen": SCREEN}
    space.write_text(yaml.safe_dump(tree))
    arguments = ["compare", space, "--searchers", "random", "--tokens", 2000, "--seeds", 0, "--results", tmp_path]
    options = ["--option", "random.batch=8", "--option", "random.tokens=32", "--json"]
    done = CliRunner().invoke(app, [*map(str, arguments), *options], standalone_mode=False)
    assert done.exception is None, done.exception
    means = next(iter(json.loads(done.stdout)["sizes"].values()))["random"]["mean"]
    assert means[-1] is not None


@pytest.mark.parametrize(
    ("screen", "changes", "code", "message"),
    [
        ({"proxy": "outputerror"}, {}, "SS102", "Did you mean 'output_error'"),
        ({"proxy": "synflow"}, {}, "SS116", "only proxies that score single matrices can screen"),
        ({"proxy": "params"}, {}, "SS116", "only proxies that score single matrices can screen"),
        ({}, {"searcher": "auto", "options": {}}, "SS114", "has no children that a proxy could screen"),
        ({}, {"evals": 16}, "SS115", "validating proxy output_error alone takes 16"),
        ({}, {"evals": None, "tokens": 1024}, "SS115", "validating proxy output_error alone takes 1,024"),
    ],
)
def test_screens_that_cannot_be(
    family_dir: Make, screen: dict[str, Any], changes: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        launched(family_dir("llama"), **search(screen, **changes))
    assert caught.value.code == code
    assert message in str(caught.value)
