"""`sparsesearch choose`: scores by hand, shares of groups, real runs on tiny models, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support import Built, launched, recipe, run_search
from typer.testing import CliRunner

from sparsesearch.calibration.sample_scores import best_rows, representative_rows, sample_scores
from sparsesearch.cli import app
from sparsesearch.data import Samples
from sparsesearch.errors import InputError

Make = Callable[[str], Path]


@pytest.fixture
def space(family_dir: Make, tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(recipe(family_dir("llama"))))
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["choose", *map(str, arguments)], standalone_mode=False)


def test_it_says_what_code_it_runs(space: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    space.write_text(yaml.safe_dump(yaml.safe_load(space.read_text()) | {"plugins": [str(tmp_path / "mine.py")]}))
    done = run(space, "--by", "random", "--pool", 20, "--out", tmp_path / "chosen")
    assert f"Runs code that the recipe names: {tmp_path / 'mine.py'}" in done.stderr


@pytest.mark.parametrize("by", ["random", "perplexity", "el2n", "grand"])
def test_chosen_samples_serve_a_recipe(space: Path, family_dir: Make, tmp_path: Path, by: str) -> None:
    out = tmp_path / "chosen"
    done = run(space, "--by", by, "--pool", 20, "--take", "hardest", "--out", out, "--json")
    assert done.exception is None, done.exception
    summary, choice = json.loads(done.stdout), json.loads((out / "choice.json").read_text())
    assert (summary["pool"], summary["chosen"]) == (20, 6)
    assert set(choice["rows"]) == set(np.argsort(choice["scores"])[-6:].tolist())
    data = recipe(family_dir("llama"))["data"]
    data["calibration"] = {"source": str(out), "sequences": 6, "length": 16}
    results = run_search(tmp_path / "run", family_dir("llama"), data=data)
    used = results.run.samples("calibration").arrays["input_ids"]
    assert np.array_equal(used, Samples.load(out).arrays["input_ids"])


def test_what_a_candidate_lost(space: Path, family_dir: Make, tmp_path: Path) -> None:
    run_search(tmp_path / "run", family_dir("llama"))
    out = tmp_path / "chosen"
    tail = ["--pool", 20, "--out", out, "--json"]
    done = run(space, "--by", "capability", "--run", tmp_path / "run", "--pick", "smallest", *tail)
    assert done.exception is None, done.exception
    choice = json.loads((out / "choice.json").read_text())
    assert min(choice["scores"]) > 0
    assert len(set(choice["rows"])) == 6


def test_scores_by_hand(family_dir: Make, tmp_path: Path) -> None:
    built = Built(family_dir("llama"), tmp_path)
    network, samples = built.launch.network, built.launch.samples["calibration"]
    model = built.supernet("sliced").materialise(built.space.dense).float()
    tokens = torch.from_numpy(np.array(samples.arrays["input_ids"], dtype=np.int64))
    with torch.no_grad():
        logits = model(input_ids=tokens).logits.float()
    targets = tokens[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none").mean(dim=1)
    values = sample_scores("perplexity", model, network, samples, 4)
    np.testing.assert_allclose(values, losses.numpy(), rtol=1e-4)
    errors = logits[:, :-1].softmax(dim=-1) - torch.nn.functional.one_hot(targets, logits.shape[-1])
    values = sample_scores("el2n", model, network, samples, 4)
    np.testing.assert_allclose(values, errors.norm(dim=-1).mean(dim=1).numpy(), rtol=1e-4)
    np.testing.assert_allclose(sample_scores("capability", model, network, samples, 4, model), 0, atol=1e-6)


def test_rows() -> None:
    scores = np.array([3.0, 0.0, 4.0, 1.0, 2.0])
    assert best_rows(scores, 2, "hardest").tolist() == [0, 2]
    assert best_rows(scores, 2, "easiest").tolist() == [1, 3]
    assert best_rows(scores, 3, "middle").tolist() == [0, 3, 4]


def test_groups_get_what_they_lost() -> None:
    """Two groups; one lost three times as much, so that it gets three quarters, its worst samples first."""
    features = np.repeat([[0.0, 0.0], [9.0, 9.0]], 50, axis=0)
    scores = np.concatenate([np.linspace(0.9, 1.1, 50), np.linspace(2.9, 3.1, 50)])
    rows = representative_rows(scores, features, 16, 0)
    assert ((rows >= 50).sum(), (rows < 50).sum()) == (12, 4)
    assert rows.tolist() == [*range(46, 50), *range(88, 100)]
    assert len(representative_rows(scores, features, 100, 0)) == 100


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--by", "el2m"], "SS101", "Did you mean 'el2n'"),
        (["--role", "selection"], "SS101", "Allowed: calibration, training"),
        (["--take", "best"], "SS101", "Allowed: hardest"),
        (["--pool", 6], "SS204", "leaves no choice"),
        (["--by", "capability"], "SS101", "need each other"),
        (["--pool", 10**7], "SS204", "Give a smaller pool (--pool)"),
    ],
)
def test_mistakes(space: Path, tmp_path: Path, arguments: list[Any], code: str, words: str) -> None:
    done = run(space, "--out", tmp_path / "chosen", *arguments)
    assert isinstance(done.exception, InputError), done.exception
    assert done.exception.code == code
    assert words in str(done.exception)
    assert not (tmp_path / "chosen").exists()


def test_what_does_not_fit(space: Path, family_dir: Make, tmp_path: Path) -> None:
    headless = tmp_path / "headless.yaml"
    headless.write_text(yaml.safe_dump(recipe(family_dir("bert-embedding"))))
    done = run(headless, "--by", "el2n", "--pool", 12, "--out", tmp_path / "a")
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "SS209"
    other = run_search(tmp_path / "run", family_dir("qwen2"))
    done = run(space, "--by", "capability", "--run", other.run.path, "--pool", 12, "--out", tmp_path / "b")
    assert isinstance(done.exception, InputError)
    assert "is of another model" in str(done.exception)
    assert run(space, "--pool", 12, "--out", tmp_path / "chosen").exception is None
    data = recipe(family_dir("llama"))["data"]
    data["calibration"] = {"source": str(tmp_path / "chosen"), "sequences": 6, "length": 16}
    choice = tmp_path / "chosen" / "choice.json"
    choice.write_text(choice.read_text().replace('"fits": "tokens', '"fits": "pair'))
    with pytest.raises(InputError, match=r"SS204 .* another kind of model or another tokenizer"):
        launched(family_dir("llama"), data=data)


def test_training_samples_may_be_those_that_were_calibrated_on(space: Path, family_dir: Make, tmp_path: Path) -> None:
    done = run(space, "--role", "training", "--pool", 12, "--out", tmp_path / "chosen")
    assert done.exception is None, done.exception
    data = recipe(family_dir("llama"))["data"]
    data["training"] = {"source": str(tmp_path / "chosen"), "sequences": 6, "length": 16}
    launched(family_dir("llama"), data=data)


def test_chosen_samples_of_another_length(space: Path, family_dir: Make, tmp_path: Path) -> None:
    out = tmp_path / "chosen"
    assert run(space, "--pool", 12, "--out", out).exception is None
    data = recipe(family_dir("llama"))["data"]
    data["calibration"] = {"source": str(out), "sequences": 6, "length": 8}
    with pytest.raises(InputError, match=r"SS204 .* has 6 samples of 16"):
        run_search(tmp_path / "run", family_dir("llama"), data=data)
