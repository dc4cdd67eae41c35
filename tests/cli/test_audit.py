"""`sparsesearch audit`: real runs on tiny models, numbers by hand, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support import recipe
from typer.testing import CliRunner

from sparsesearch.cli import app
from sparsesearch.errors import InputError
from sparsesearch.proxies.agreement import Agreement, agreement
from sparsesearch.report.pages.audit_page import verdict

Make = Callable[[str], Path]


@pytest.fixture
def space(family_dir: Make, tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    units = [{"kind": "sparsity", "levels": ["40%", "75%"]}, {"kind": "ffn_width", "levels": 3}]
    path.write_text(yaml.safe_dump(recipe(family_dir("llama"), units=units)))
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)], standalone_mode=False)


def test_an_audit_goes_on_and_gives_the_same_numbers(space: Path, tmp_path: Path) -> None:
    arguments = [space, "--samples", 12, "--results", tmp_path, "--name", "a", "--json"]
    first = run(*arguments, "--proxies", "output_error,snip,grad_norm")
    assert first.exception is None, first.exception
    result = json.loads(first.stdout)
    assert set(result["proxies"]) == {"output_error", "snip", "grad_norm", "params", "macs", "nonzeros", "random"}
    assert len(result["candidates"]) == 12
    assert result["limits"][0].startswith("nonzeros<=")
    sizes = [c["costs"]["nonzeros"] for c in result["candidates"]]
    assert max(sizes) - min(sizes) < 0.02 * max(sizes), "candidates of equal cost"
    assert result["proxies"]["output_error"]["tau"] > 0.3
    assert {n for n, p in result["proxies"].items() if p["control"]} == {"params", "macs", "nonzeros", "random"}
    for name, each in result["proxies"].items():
        scores = np.array([c["scores"][name] for c in result["candidates"]])
        again = agreement(name, scores, np.array([c["kl"] for c in result["candidates"]]))
        assert each["tau"] == (pytest.approx(again.tau) if np.isfinite(again.tau) else None)
    assert (tmp_path / "a" / "audit.html").stat().st_size > 5_000
    assert (tmp_path / "a" / "audit.png").exists()
    evaluations = (tmp_path / "a" / "archive.jsonl").read_bytes()
    more = run(*arguments, "--proxies", "all")
    assert more.exception is None, more.exception
    assert (tmp_path / "a" / "archive.jsonl").read_bytes() == evaluations, "nothing is measured twice"
    everything = json.loads(more.stdout)["proxies"]
    assert everything["snip"]["tau"] == result["proxies"]["snip"]["tau"]
    assert "synflow" not in everything
    assert everything["nwot"]["note"] == "no finite score for 12 of 12"


def test_agreement_after_training(space: Path, tmp_path: Path) -> None:
    arguments = [space, "--samples", 8, "--results", tmp_path, "--name", "a", "--proxies", "output_error", "--json"]
    assert run(*arguments).exception is None
    tail = ["--train", 64, "--set", "training.batch=2", "--set", "training.learning_rate=1e-3"]
    done = run(*arguments, *tail)
    assert done.exception is None, done.exception
    result = json.loads(done.stdout)
    assert result["training"]["tokens"] == 64
    assert -1 <= result["training"]["tau_before"] <= 1
    assert -1 <= result["proxies"]["output_error"]["tau_after"] <= 1
    table = run(*arguments[:-1], *tail)
    assert table.exception is None
    assert "kl, untrained" in table.stdout
    few = run(*arguments, "--train", 1)
    assert isinstance(few.exception, InputError)
    assert few.exception.code == "SS118"


def test_when_all_diverge(space: Path, tmp_path: Path) -> None:
    arguments = [space, "--samples", 4, "--results", tmp_path, "--name", "a", "--proxies", "output_error", "--json"]
    wild = ["training.batch=2", "training.learning_rate=1e20", "training.clip=1e30", "training.optimizer=sgd"]
    changes = [part for change in wild for part in ("--set", change)]
    done = run(*arguments, "--train", 128, *changes, "--set", "search.searcher=evolution")
    assert done.exception is None, done.exception
    assert json.loads(done.stdout)["training"]["tau_before"] is None


def test_verdicts() -> None:
    def one(proxy: str, tau: float, note: str = "") -> Agreement:
        return Agreement(proxy, tau, tau, (tau, tau), (tau, tau), note)

    control = one("nonzeros", 0.5)
    assert verdict(one("p", 0.6), [control]) == "usable"
    assert verdict(one("p", 0.4), [control]) == "no better than nonzeros"
    assert verdict(one("p", 0.2), [one("random", 0.1)]) == "too weak to use alone"
    assert verdict(control, [control]) == "control"
    assert verdict(one("p", float("nan"), "all alike"), [control]) == "all alike"


def test_agreement_by_hand() -> None:
    values = np.arange(10.0)
    same = agreement("p", values**3, values)
    assert (same.tau, same.rho) == (pytest.approx(1), pytest.approx(1))
    assert same.tau_range == (pytest.approx(1), pytest.approx(1))
    swapped = values.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    result = agreement("p", swapped, values)
    assert result.tau == pytest.approx(1 - 2 * 2 / (10 * 9))
    assert result.tau_range[0] < result.tau <= result.tau_range[1]
    assert agreement("p", -values, values).tau == pytest.approx(-1)
    assert agreement("p", np.zeros(10), values).note == "all candidates alike"
    assert agreement("p", np.array([np.nan, *values[1:]]), values).note == "no finite score for 1 of 10"
    few = agreement("p", values[:5], values[:5])
    assert few.tau == pytest.approx(1)
    assert np.isnan(few.tau_range).all()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--proxies", "snipp"], "SS102", "Did you mean 'snip'"),
        (["--proxies", "snip,snip"], "SS102", "is named twice"),
        (["--proxies", "synflow"], "SS116", "softmax and layer norms"),
        (["--proxies", ","], "SS101", "has no values"),
        (["--limit", "nonzeros<=1%"], "SS106", "cannot be met"),
    ],
)
def test_mistakes_get_one_line(space: Path, tmp_path: Path, arguments: list[str], code: str, words: str) -> None:
    done = run(space, "--results", tmp_path, *arguments)
    assert isinstance(done.exception, InputError)
    assert done.exception.code == code
    assert words in str(done.exception)
    assert not (tmp_path / "space-audit").exists()


def test_proxies_of_the_loss_need_labels(family_dir: Make, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    tree = recipe(family_dir("vit"), units=[{"kind": "ffn_width", "levels": 3}])
    flat = tmp_path / "flat"
    flat.mkdir()
    for image in Path(tree["data"]["calibration"]["source"]).rglob("*.png"):
        (flat / image.name).write_bytes(image.read_bytes())
    tree["data"]["calibration"]["source"] = str(flat)
    path.write_text(yaml.safe_dump(tree))
    done = run(path, "--results", tmp_path, "--proxies", "snip")
    assert isinstance(done.exception, InputError)
    assert "SS116 proxy snip: it needs labels" in str(done.exception)


def test_another_space_of_the_same_name(space: Path, tmp_path: Path) -> None:
    assert run(space, "--samples", 4, "--results", tmp_path, "--proxies", "wanda").exception is None
    done = run(space, "--samples", 4, "--results", tmp_path, "--proxies", "wanda", "--limit", "nonzeros<=90%")
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "SS602"
