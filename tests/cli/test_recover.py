"""`sparsesearch recover`: a candidate is trained, written, loaded again and still as sparse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import run_search
from typer.testing import CliRunner

import sparsesearch as ss
from sparsesearch.cli import app
from sparsesearch.errors import InputError
from sparsesearch.models import load_model
from sparsesearch.runs.results import RunResults

pytestmark = pytest.mark.usefixtures("quick_exports")
Make = Callable[[str], Path]
CHANGES: dict[str, Any] = {
    "limits": ["nonzeros<=90%"],
    "units": [{"kind": "sparsity", "levels": ["40%", "75%"]}, {"kind": "ffn_width", "levels": 3}, {"kind": "drop_ffn"}],
    "training": {"batch": 2, "learning_rate": 1e-3, "schedule": "constant"},
}


@pytest.fixture(scope="module")
def searched(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_search(tmp_path_factory.mktemp("recover") / "run", family_dir("llama"), **CHANGES)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["recover", *map(str, arguments)], standalone_mode=False)


@pytest.mark.parametrize("method", ["full", "perp", "masked_lora"])
@pytest.mark.parametrize("form", ["auto", "zeros"])
def test_a_recovered_candidate_is_a_model(searched: RunResults, tmp_path: Path, method: str, form: str) -> None:
    out = tmp_path / "model"
    done = run(
        searched.run.path,
        "--pick",
        "best",
        "--tokens",
        400,
        "--method",
        method,
        "--form",
        form,
        "--out",
        out,
        "--json",
        "--set",
        f"training.learning_rate={2e-4 if method == 'masked_lora' else 1e-3}",
    )
    assert done.exception is None, done.exception
    report = json.loads(done.stdout)
    assert report["after"] < report["before"]
    assert report["training_tokens"] == 384, "whole steps"
    assert report["nonzeros"] <= searched.pick("best").costs["nonzeros"]
    model = ss.load(out)
    assert sum(int((p != 0).sum()) for p in model.parameters()) == report["nonzeros"]


def test_soups_are_no_worse_than_their_ingredients(searched: RunResults, tmp_path: Path) -> None:
    one = json.loads(
        run(searched.run.path, "--pick", "best", "--tokens", 400, "--out", tmp_path / "a", "--json").stdout
    )
    three = run(searched.run.path, "--pick", "best", "--tokens", 400, "--soup", 3, "--out", tmp_path / "b", "--json")
    assert three.exception is None, three.exception
    soup = json.loads(three.stdout)
    assert soup["after"] <= one["after"] * (1 + 1e-6)
    assert soup["training_tokens"] == 3 * 384
    assert soup["nonzeros"] == one["nonzeros"]


def test_what_is_judged_is_what_a_file_of_another_type_holds(family_dir: Make, tmp_path: Path) -> None:
    model = load_model(family_dir("llama"), dtype=torch.float32, device="cpu").bfloat16()
    shutil.copytree(family_dir("llama"), tmp_path / "half")
    model.save_pretrained(tmp_path / "half")
    results = run_search(tmp_path / "run", tmp_path / "half", **CHANGES)
    for soup in (1, 2):
        out = tmp_path / f"out-{soup}"
        done = run(results.run.path, "--pick", "best", "--tokens", 400, "--soup", soup, "--out", out, "--json")
        assert done.exception is None, done.exception
        assert next(ss.load(out).parameters()).dtype == torch.bfloat16
        assert json.loads(done.stdout)["max_abs_logit_diff"] < 1e-3


def test_the_file_tells_of_the_training(searched: RunResults, tmp_path: Path) -> None:
    before = len(searched.run.lines(searched.run.ledger))
    for number in range(2):
        out = tmp_path / str(number)
        done = run(searched.run.path, "--pick", "best", "--tokens", 416, "--out", out, "--json")
        manifest = json.loads((out / "sparsesearch.json").read_text())
        assert manifest["objectives"]["kl"] == json.loads(done.stdout)["after"]
        assert manifest["training_tokens"] == 416
    assert len(searched.run.lines(searched.run.ledger)) == before + 1, "what was trained is not paid for again"


def test_training_data_are_as_many_as_there_are(searched: RunResults, tmp_path: Path) -> None:
    text = tmp_path / "train.txt"
    text.write_text("one two three four five six seven eight nine ten\n" * 200)
    out = tmp_path / "out"
    done = run(
        searched.run.path,
        "--pick",
        "best",
        "--tokens",
        20_000,
        "--training",
        text,
        "--out",
        out,
        "--json",
        "--set",
        "training.batch=600",
        "--set",
        "data.allow_shared=true",
    )
    assert done.exception is None, done.exception
    sizes = [len(searched.run.samples(path.name)) for path in searched.run.data.glob("training*")]
    assert max(sizes) > len(searched.run.samples("calibration"))


def test_other_training_data_each_time(searched: RunResults, tmp_path: Path) -> None:
    after, before = [], len(list(searched.run.data.glob("training*")))
    for number, source in enumerate(["stdlib:test", "stdlib:test", "stdlib:selection"]):
        out = tmp_path / str(number)
        done = run(
            searched.run.path,
            "--pick",
            "best",
            "--tokens",
            256,
            "--training",
            source,
            "--out",
            out,
            "--json",
            "--set",
            "data.allow_shared=true",
        )
        assert done.exception is None, done.exception
        after.append(json.loads(done.stdout)["after"])
    assert after[0] == after[1] != after[2]
    assert len(list(searched.run.data.glob("training*"))) == before + 2
    assert searched.run.samples("calibration").size, "untouched"


def test_the_whole_front(searched: RunResults, tmp_path: Path) -> None:
    done = run(searched.run.path, "--front", "--tokens", 64, "--out", tmp_path / "all", "--json")
    assert done.exception is None, done.exception
    reports = json.loads(done.stdout)
    assert {Path(r["out"]).name for r in reports} == {e.genome.id for e in searched.front}
    shutil.rmtree(reports[-1]["out"])
    again = run(searched.run.path, "--front", "--tokens", 64, "--out", tmp_path / "all", "--json")
    assert again.exception is None, again.exception
    assert json.loads(again.stdout) != []
    assert Path(reports[-1]["out"]).is_dir(), "what an interruption left out is written"
    for other in (["--tokens", 128], ["--tokens", 64, "--form", "zeros"], ["--tokens", 64, "--soup", 2]):
        refused = run(searched.run.path, "--front", *other, "--out", tmp_path / "all")
        assert isinstance(refused.exception, InputError), other
        assert "SS500" in str(refused.exception), refused.exception
        assert "trained with other options" in str(refused.exception)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--tokens", 3], "SS118", "less than one step"),
        (["--method", "lora"], "SS117", "would fill pruned weights"),
        (["--set", "batch=1"], "SS602", "batch would change"),
        (["--training", "nothing.txt"], "SS204", "cannot read nothing.txt"),
        (["--method", "loar"], "SS101", "training.method"),
        (["--method", "compensate"], "SS117", "neither biases nor batch statistics"),
        (["--form", "unifrom"], "SS102", "unifrom"),
        (["--pick", "best", "--front"], "SS501", "Give one of them"),
        (["--tokens", 64, "--set", "training.learning_rate=1e20", "--set", "training.clip=1e30"], "SS408", "diverged"),
    ],
)
def test_mistakes(searched: RunResults, tmp_path: Path, arguments: list[Any], code: str, words: str) -> None:
    done = run(searched.run.path, *arguments, "--out", tmp_path / "out")
    assert isinstance(done.exception, Exception)
    assert getattr(done.exception, "code", "") == code, done.exception
    assert words in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_there(searched: RunResults, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = run(searched.run.path, "--out", tmp_path)
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "SS500"
