"""`sparsesearch iterate`: stages that nest, one teacher for all, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from support import launched, recipe
from typer.testing import CliRunner

import sparsesearch as ss
from sparsesearch.cli import app
from sparsesearch.engine.workflows.iterate import limits_of_stage
from sparsesearch.errors import InputError
from sparsesearch.runs.results import RunResults

pytestmark = pytest.mark.usefixtures("quick_exports")
Make = Callable[[str], Path]
UNITS = [{"kind": "sparsity", "levels": 8, "max_sparsity": "90%"}]


@pytest.fixture
def space(family_dir: Make, tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    training = {"batch": 2, "learning_rate": 1e-3}
    tree = recipe(family_dir("llama"), units=UNITS, limits=["sparsity>=75%"], training=training)
    path.write_text(yaml.safe_dump(tree))
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["iterate", *map(str, arguments)], standalone_mode=False)


def test_stages_nest_and_the_same_command_goes_on(space: Path, tmp_path: Path, family_dir: Make) -> None:
    arguments = [space, "--stages", 2, "--train", 96, "--results", tmp_path, "--name", "i", "--json"]
    done = run(*arguments, "--out", tmp_path / "out")
    assert done.exception is None, done.exception
    stages = json.loads(done.stdout)
    assert [s["stage"] for s in stages] == [1, 2]
    assert all(s["after"] < s["before"] for s in stages), "training helps"
    runs = [RunResults(tmp_path / f"i-{stage}") for stage in (1, 2)]
    (between,) = (tmp_path / "i-1").glob("model-*")
    assert runs[1].info["model"] == str(between)
    assert runs[0].info["fingerprint"]["teacher"] is None
    assert runs[1].info["fingerprint"]["teacher"] == runs[0].info["fingerprint"]["weights"], "one teacher for all"
    places = (between, tmp_path / "out")
    first, last = (load_file(next(place.glob("*.safetensors"))) for place in places)
    pruned = [name for name, tensor in first.items() if bool((tensor == 0).any()) and name.endswith("proj.weight")]
    assert pruned
    for name in pruned:
        assert bool((last[name][first[name] == 0] == 0).all()), "what was pruned stays pruned"
    size = sum(first[name].numel() for name in pruned)
    assert sum(int((first[name] == 0).sum()) for name in pruned) >= 0.5 * size
    assert sum(int((last[name] == 0).sum()) for name in pruned) >= 0.75 * size
    model = ss.load(tmp_path / "out")
    assert torch.isfinite(model(torch.arange(8)[None]).logits).all()
    archive = runs[0].run.archive.read_bytes()
    again = run(*arguments, "--out", tmp_path / "other")
    assert again.exception is None, again.exception
    assert runs[0].run.archive.read_bytes() == archive
    assert [s["after"] for s in json.loads(again.stdout)] == [s["after"] for s in stages]
    for other in (["--limit", "sparsity>=30%"], ["--stages", 3], ["--train", 192]):
        refused = run(*arguments, "--out", tmp_path / "third", *other)
        assert isinstance(refused.exception, InputError), (other, refused.exception)
        assert "was made with other options" in str(refused.exception)


def test_each_stage_leaves_the_same_share(family_dir: Make) -> None:
    space = launched(family_dir("llama"), units=UNITS, limits=["sparsity>=75%", "nonzeros<=81%"]).space
    assert limits_of_stage(space, 2, 2) == ["sparsity>=75%", "nonzeros<=81%"]
    sparsity, nonzeros = limits_of_stage(space, 1, 2)
    assert float(sparsity.removeprefix("sparsity>=").rstrip("%")) == pytest.approx(50, abs=0.01)
    assert float(nonzeros.removeprefix("nonzeros<=").rstrip("%")) == pytest.approx(90, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--set", "units=[{kind: ffn_width}]", "--limit", "params<=95%"], "SS119", "ffn_width"),
        (["--train", 5], "SS118", "less than one step"),
        (["--set", "limits=[]"], "SS106", "recipe has none"),
    ],
)
def test_mistakes(space: Path, tmp_path: Path, arguments: list[Any], code: str, words: str) -> None:
    done = run(space, "--results", tmp_path / "results", "--out", tmp_path / "out", *arguments)
    assert isinstance(done.exception, InputError), done.exception
    assert done.exception.code == code
    assert words in str(done.exception)
    assert not (tmp_path / "results").exists()


def test_a_teacher_of_another_task(family_dir: Make) -> None:
    with pytest.raises(InputError, match="SS216"):
        launched(family_dir("llama"), model={"id": str(family_dir("llama")), "teacher": str(family_dir("bert"))})
