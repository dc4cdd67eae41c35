"""A network of one's own from the command line: factory, state, images, export, reload."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from networks import CLASSES, make
from safetensors.torch import save_file
from support import image_folder

TESTS = Path(__file__).parents[1]
IMAGE = {"size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a state, folders of labelled images and a recipe, from which the factory can be imported."""
    save_file(make("padded").state_dict(), tmp_path / "state.safetensors")
    data = {
        role: {"source": str(image_folder(tmp_path / role, 8, seed)), "sequences": 8, "image": IMAGE}
        for seed, role in enumerate(("calibration", "selection", "test"))
    }
    recipe = {
        "model": {"id": "networks:padded", "weights": str(tmp_path / "state.safetensors")},
        "units": [{"kind": "channels", "levels": 3}, {"kind": "sparsity", "levels": ["50%"]}],
        "objectives": ["kl", "macs"],
        "data": data,
        "batch": 4,
        "search": {
            "searcher": "nsga2",
            "evals": 12,
            "options": {"population": 6, "offspring": 4, "tokens": 4, "sizes": 2},
        },
        "executor": {"kind": "local"},
    }
    (tmp_path / "cnn.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def run_apart(place: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from sparsesearch.cli import main; main()", *map(str, arguments)]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(command, capture_output=True, text=True, cwd=place, env=os.environ | {"PYTHONPATH": path})


def test_search_and_export_a_factorys_network(
    place: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)  # for the fresh process that checks the export
    assert run("space", "check", "cnn.yaml").code == 2
    checked = run("space", "check", "cnn.yaml", "--trust-remote-code")
    assert checked.code == 0, checked.err
    assert "6 sparsity, 2 channels" in checked.out
    assert "Note: channels of linear cannot be cut" in checked.out
    searched = run_apart(place, "search", "cnn.yaml", "--results", place, "--name", "r", "--json")
    assert searched.returncode == 0, searched.stderr
    front = json.loads(searched.stdout)
    assert front["dense"]["objectives"]["kl"] < 1e-6
    assert front["candidates"]
    assert set(json.loads((place / "r" / "test.json").read_text())) >= {c["id"] for c in front["candidates"][:1]}
    exported = run("export", "r", "--pick", "smallest", "--out", "out", "--json", "--trust-remote-code")
    assert exported.code == 0, exported.err
    report = exported.json
    assert report["verified"] == ["sparsesearch.load"]
    assert report["form"] == "uneven"
    assert report["params"] < front["dense"]["costs"]["params"]
    for verb in ("front", "show", "report"):
        assert run(verb, "r").code == 0
    import sparsesearch as ss

    model = ss.load(place / "out", trust_remote_code=True)
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, CLASSES)
    images = ("--images", "test", "--trust-remote-code", "--json")
    accuracies = [run("evaluate", target, *images).json for target in ("out", f"r/{report['id']}")]
    assert accuracies[0] == accuracies[1]
    assert accuracies[0]["images"] == 8
    assert accuracies[0]["params"] == report["params"]
    assert accuracies[0]["accuracy"] == json.loads((place / "r" / "test.json").read_text())[report["id"]]
    resumed = run("resume", "r", "--evals", "+4", "--json", "--trust-remote-code")
    assert resumed.code == 0, resumed.err


@pytest.mark.ray
def test_workers_find_a_factory_beside_the_shell(place: Path) -> None:
    """Same bytes from Ray's workers, which import it from where the command was given."""
    (place / "beside").mkdir()
    (place / "beside" / "own_nets.py").write_text((TESTS / "networks.py").read_text())
    archives = []
    for kind in ("local", "ray"):
        process = run_apart(
            place / "beside",
            "search",
            "../cnn.yaml",
            "--model",
            "own_nets:padded",
            "--results",
            place,
            "--name",
            kind,
            "--set",
            f"executor.kind={kind}",
            "--set",
            "executor.workers=2",
        )
        assert process.returncode == 0, process.stderr
        archives.append((place / kind / "archive.jsonl").read_bytes())
    assert archives[0] == archives[1]


def test_evaluate_refuses_what_it_cannot_judge(
    place: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for arguments, code, words in (
        (["networks:padded", "--images", "test"], "SS204", "size and normalisation of images are not known"),
        (["networks:padded", "--text", "cnn.yaml"], "SS504", "neither a causal language model"),
        (["demo", "--images", "test"], "SS504", "no classifier of images"),
        (["demo"], "SS101", "needs one of --text, --images and --tasks"),
        (["demo", "--text", "cnn.yaml", "--images", "test"], "SS101", "needs one of --text, --images and --tasks"),
    ):
        done = run("evaluate", *arguments)
        assert done.code == 2, done.err
        assert code in done.err
        assert words in done.err


def without(place: Path, key: str) -> Path:
    state = {k: v for k, v in make("padded").state_dict().items() if k != key}
    save_file(state, place / "less.safetensors")
    return place / "less.safetensors"


def with_more(place: Path) -> Path:
    save_file(make("padded").state_dict() | {"extra.weight": torch.zeros(2)}, place / "more.safetensors")
    return place / "more.safetensors"


def spoilt(place: Path) -> Path:
    for file in list((place / "calibration").rglob("*.png"))[:3]:
        file.write_bytes(b"not an image")
    return place / "calibration"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "nowhere:padded"], "SS213", "No module named 'nowhere'"),
        (["--model", "networks:nothing"], "SS213", "has no attribute 'nothing'"),
        (["--model", "networks:NETWORKS"], "SS213", "cannot be called"),
        (["--model", "torch:seed"], "SS213", "returns int, not a torch.nn.Module"),
        (["--set", lambda p: f"model.weights={without(p, 'linear.bias')}"], "SS214", "misses linear.bias"),
        (["--set", lambda p: f"model.weights={with_more(p)}"], "SS214", "has unexpected extra.weight"),
        (["--set", "model.weights=/no/such"], "SS214", "cannot read model.weights"),
        (["--model", "demo"], "SS213", "model.weights is for a factory"),
        (["--calibration", spoilt], "SS212", "cannot be read"),
        (["--calibration", "/no/such"], "SS204", "cannot read /no/such: No such file"),
        (["--set", "data.selection.sequences=50"], "SS204", "has 8 of 50 images"),
        (["--set", "units.0.kind=ffn_width"], "SS103", "Padded has nothing of that kind. It has: channels, sparsity"),
        (["--set", "units.0.target=linear"], "SS103", "channels of linear cannot be cut"),
        (["--set", "units.0.target=blocks.0.conv2"], "SS103", "blocks.0.conv2"),
        (["--set", "units.1.target=nothing"], "SS103", "matched 0 of 6 modules"),
        (["--set", "objectives.0=perplexity"], "SS102", "not a quality for module"),
        (["--set", "data.calibration.image=null"], "SS204", "size and normalisation of images"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("SS") else None,
)
def test_mistakes_get_one_line(
    place: Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[Any],
    code: str,
    words: str,
) -> None:
    monkeypatch.chdir(place)
    extras = [a(place) if callable(a) else a for a in arguments]
    done = run("search", "cnn.yaml", "--results", place / "res", "--dry-run", "--trust-remote-code", *extras)
    assert done.code == 2, done.out + done.err
    assert done.err.startswith(code)
    assert words in done.err
    assert done.err.count("\n") == 1
