"""`sparsesearch compare`: equal budgets, one store, the same command goes on, honest numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support import recipe
from typer.testing import CliRunner

from sparsesearch.cli import app
from sparsesearch.engine.workflows.compare import Checkpoint, Contender
from sparsesearch.errors import InputError
from sparsesearch.report.comparison import build_comparison, interval
from sparsesearch.runs.results import RunResults
from sparsesearch.space import Genome

Make = Callable[[str], Path]


@pytest.fixture
def space(family_dir: Make, tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(recipe(family_dir("llama"))))
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], standalone_mode=False)


def test_one_that_trains_is_compared_with_one_that_does_not(space: Path, tmp_path: Path) -> None:
    arguments = [
        space,
        "--searchers",
        "darwin,random",
        "--tokens",
        20_000,
        "--seeds",
        "0",
        "--set",
        "limits=[nonzeros<=95%]",
        "--option",
        "darwin.training=[128,128,128,256]",
        "--option",
        "darwin.tokens=[16,32,32,64]",
        "--results",
        tmp_path,
        "--name",
        "c",
        "--json",
    ]
    first = run(*arguments)
    assert first.exception is None, first.exception
    again = run(*arguments)
    assert again.exception is None, again.exception
    assert json.loads(again.stdout) == json.loads(first.stdout)


def test_searchers_are_compared_and_the_same_command_goes_on(space: Path, tmp_path: Path) -> None:
    arguments = [
        space,
        "--searchers",
        "random,nsga2",
        "--tokens",
        1200,
        "--seeds",
        "0,1",
        "--sizes",
        "95%,85%",
        "--results",
        tmp_path,
        "--name",
        "c",
        "--option",
        "nsga2.population=8",
        "--json",
    ]
    first = run(*arguments)
    assert first.exception is None, first.exception
    numbers = json.loads(first.stdout)
    assert set(numbers["sizes"]) == {"nonzeros<=95%", "nonzeros<=85%"}
    for each in (*numbers["sizes"].values(), numbers["hypervolume"]):
        assert set(each) == {"random", "nsga2"}
    runs = [RunResults(tmp_path / "c" / f"{name}-s{seed}") for name in ("random", "nsga2") for seed in (0, 1)]
    for results in runs:
        before_final = [e for e in results.evaluations if e.sequences < results.info["selection_sequences"]]
        assert sum(e.measured_sequences for e in before_final) * 16 <= 1200
    # Volume only grows with what is spent, up to what few samples get wrong.
    assert all(v["mean"][-1] > 0 for v in numbers["hypervolume"].values())
    assert (tmp_path / "c" / "compare.html").stat().st_size > 10_000
    assert (tmp_path / "c" / "compare.png").exists()
    assert len(list((tmp_path / "c" / ".cache" / "stores").glob("*/index.json"))) == 1
    # Another option of a searcher; another searcher in bfloat16: its choices would be judged with these.
    coarser = ["other=random" if argument == "random,nsga2" else argument for argument in arguments[:-3]]
    for different in (
        [*arguments, "--option", "nsga2.offspring=9"],
        [*coarser, "--set", "model.compute_dtype=bfloat16"],
    ):
        other = run(*different)
        assert isinstance(other.exception, InputError)
        assert other.exception.code == "SS602"
    archives = [results.run.archive.read_bytes() for results in runs]
    judged = (tmp_path / "c" / "judged" / "archive.jsonl").read_bytes()
    again = run(*arguments)
    assert json.loads(again.stdout) == numbers
    assert [results.run.archive.read_bytes() for results in runs] == archives
    assert (tmp_path / "c" / "judged" / "archive.jsonl").read_bytes() == judged
    more = run(*(1500 if argument == 1200 else argument for argument in arguments))
    assert more.exception is None, more.exception
    for results, before in zip(runs, archives, strict=True):
        assert results.run.archive.read_bytes() != before, "a larger budget goes on with the search"


@pytest.mark.parametrize(("name", "asynchronous"), [("nsga2", "false"), ("nsga2", "true"), ("auto", "false")])
def test_checkpoints_are_what_shorter_searches_had_chosen(
    space: Path, tmp_path: Path, name: str, asynchronous: str
) -> None:
    """A search to the budget of a checkpoint chooses what the longer one is said to have chosen there."""
    few = ["--option", "auto.tokens=32", "--option", "auto.probe_tokens=16"] if name == "auto" else []
    common = [
        space,
        "--searchers",
        name,
        "--seeds",
        "0",
        "--sizes",
        "85%",
        "--results",
        tmp_path,
        "--json",
        *few,
        "--set",
        f"search={{searcher: {name}, asynchronous: {asynchronous}}}",
        "--set",
        "executor.workers=1",
    ]
    long = run(*common, "--tokens", 2000, "--name", "long")
    short = run(*common, "--tokens", 1000, "--name", "short")
    assert long.exception is None, long.exception
    assert short.exception is None, short.exception
    series = [json.loads(done.stdout)["sizes"]["nonzeros<=85%"][name] for done in (long, short)]
    at, end = series[0]["tokens"].index(1000), -1
    assert series[0]["mean"][at] == series[1]["mean"][end]
    assert series[0]["mean"][at] is not None


def test_the_searcher_of_the_recipe_does_not_count(space: Path, tmp_path: Path) -> None:
    overrides = ["--set", "search.searcher=evolution", "--set", "search.options={tokens: 1000000}"]
    done = run(
        space,
        "--searchers",
        "random",
        "--tokens",
        320,
        "--seeds",
        "0",
        "--sizes",
        "95%",
        "--results",
        tmp_path,
        "--json",
        *overrides,
    )
    assert done.exception is None, done.exception


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--searchers", "random,random"], "SS102", "searcher 'random' is named twice"),
        (["--searchers", "random", "--tokens", "15"], "SS115", "is less than one evaluation takes"),
        (["--searchers", "a=random,a=nsga2"], "SS102", "searcher 'a' is named twice"),
        (["--searchers", "a=randm"], "SS102", "Did you mean 'random'"),
        (["--searchers", "random", "--seeds", "0,0"], "SS102", "seed 0 is named twice"),
        (["--searchers", "random", "--seeds", "a"], "SS101", "seeds are integers"),
        (["--searchers", "randm"], "SS102", "Did you mean 'random'"),
        (["--searchers", ","], "SS101", "has no values"),
        (["--searchers", "random", "--option", "nsga2.tokens=5"], "SS101", "names none of the searchers"),
        (["--searchers", "random", "--sizes", "1%"], "SS106", "cannot be met"),
    ],
)
def test_mistakes_get_one_line(space: Path, tmp_path: Path, arguments: list[str], code: str, words: str) -> None:
    done = run(space, "--tokens", 500, "--results", tmp_path, "--name", "c", *arguments)
    assert isinstance(done.exception, InputError)
    assert done.exception.code == code
    assert words in str(done.exception)
    assert not (tmp_path / "c").exists()


def test_numbers_by_hand() -> None:
    small, large = Genome.of([1]), Genome.of([0])
    curves = {
        Contender("a", 0, Path()): [Checkpoint(10, 1.0, (large, None)), Checkpoint(20, 2.0, (large, small))],
        Contender("a", 1, Path()): [Checkpoint(10, 3.0, (large, small)), Checkpoint(20, 4.0, (large, small))],
    }
    numbers = build_comparison(curves, {small: 2.0, large: 1.0}, {"big": 0.8, "little": 0.4}, "kl")
    big, little = numbers.at_size["big"]["a"], numbers.at_size["little"]["a"]
    assert big.mean.tolist() == [1.0, 1.0]
    assert big.seconds.tolist() == [2.0, 3.0]
    assert math.isnan(little.mean[0])
    assert little.mean[1] == 2.0
    # Reference: 2.2 by 1.1.
    alone, both = 1.2 * 0.3, 1.2 * 0.3 + 0.2 * 0.4
    assert numbers.volume["a"].mean == pytest.approx([(alone + both) / 2, both])


def test_the_interval_covers_the_mean() -> None:
    values = np.random.default_rng(0).normal(5.0, 1.0, (40, 1))
    mean, low, high = interval(values)
    assert low[0] < mean[0] < high[0]
    # About two standard errors on each side.
    assert 0.4 < high[0] - low[0] < 0.9
    assert [x[0] for x in interval(values[:1])] == [values[0, 0]] * 3
