"""Nothing that is loaded runs code unasked."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from support import launched, recipe, run_search
from torch import nn

import sparsesearch as ss
from sparsesearch import cli
from sparsesearch.engine.workflows.iterate import search_stage
from sparsesearch.errors import InputError
from sparsesearch.runs.progress import Reporter

Make = Callable[[str], Path]
EVIL = "from pathlib import Path\nfrom torch import nn\nPath({mark!r}).touch()\ndef make(): return nn.Linear(2, 2)\n"


class Touch:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _manifest(directory: Path, **fields: Any) -> None:
    common = {"schema": 1, "task": "module", "model": "m", "weights_sha256": "", "image": None, "surgery": None}
    (directory / "sparsesearch.json").write_text(json.dumps(common | fields))


def test_a_factory_in_a_manifest_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "evil_factory.py").write_text(EVIL.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path)
    _manifest(tmp_path, form="zeros", factory="evil_factory:make")
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(
        InputError, match=r"SS504 .* the factory 'evil_factory:make' .*not run unasked.*trust_remote_code"
    ):
        ss.load(tmp_path)
    assert not mark.exists()
    assert "evil_factory" not in sys.modules
    assert isinstance(ss.load(tmp_path, module=nn.Linear(2, 2)), nn.Linear)
    assert not mark.exists()
    assert isinstance(ss.load(tmp_path, trust_remote_code=True), nn.Linear)
    assert mark.exists()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An export of form torch_export."""
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    exported = torch.export.export(network, (torch.zeros(3, 2),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(exported, tmp_path / "model.pt2")
    fields = {"form": "torch_export", "inputs": ["0"], "params": 15, "nonzeros": 15, "max_length": 1}
    _manifest(tmp_path, **fields)
    return tmp_path


def _rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, change(name, data))


@pytest.mark.parametrize("where", ["nowhere", "expression", "weight", "sample", "another layout", "no archive"])
def test_a_program_is_loaded_only_with_trust(program: Path, tmp_path: Path, where: str) -> None:
    mark, path = tmp_path / "ran", program / "model.pt2"
    payload, call = pickle.dumps(Touch(mark)), f"__import__('pathlib').Path('{mark}').touch()".encode()

    def change(name: str, data: bytes) -> bytes:
        if where == "expression" and name.endswith("models/model.json"):
            return re.sub(rb"Symbol\('s\d+', positive=True, integer=True\)", call, data)
        if where == "weight" and name.endswith("model_weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true')
        if (where == "weight" and name.endswith("weight_0")) or (where == "sample" and name.endswith("model.pt")):
            return payload
        return data

    if where == "no archive":
        path.write_bytes(payload)
    elif where == "another layout":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("serialized_state_dict.pt", payload)
    else:
        _rewritten(path, change)
    with pytest.raises(InputError, match=r"SS504 .*model\.pt2 .*trust_remote_code"):
        ss.load(program)
    assert not mark.exists()
    if where == "nowhere":
        assert ss.load(program, trust_remote_code=True)(torch.zeros(2, 2)).shape == (2, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"form": 3},
        {"task": "evil"},
        {"weights_sha256": None},
        {"classes": ["../x", "y"]},
        {"form": "torch_export"},
        {"image": 3},
        {"image": {"size": -1}},
        {"image": {"other": 1}},
        {"factory": 3},
        {"factory": "os.system"},
        {"form": "onnx", "inputs": [], "params": 1, "nonzeros": 1, "max_length": "x"},
    ],
)
def test_manifests_that_are_none_are_one_line(family_dir: Make, tmp_path: Path, change: dict[str, Any]) -> None:
    _manifest(tmp_path, **({"form": "zeros", "factory": None} | change))
    with pytest.raises(InputError, match="SS504 "):
        ss.load(tmp_path)


EMPTY: dict[str, Any] = {"shapes": {}, "attributes": [], "stand_ins": []}


@pytest.mark.parametrize(
    "surgery",
    [
        3,
        {"shapes": {}},
        EMPTY | {"shapes": {"weight": [10**6, 10**6]}},
        EMPTY | {"shapes": {"weight": [-1, 2]}},
        EMPTY | {"shapes": {"weight": "xx"}},
        EMPTY | {"stand_ins": [["", "evil"]]},
        EMPTY | {"attributes": [["", "training", 1]]},
        EMPTY | {"attributes": [["", "forward", 1]]},
        EMPTY | {"attributes": [["", "__class__", 1]]},
        EMPTY | {"attributes": [["", "in_features", "x"]]},
        EMPTY | {"attributes": [["nothing.there", "in_features", 1]]},
    ],
)
def test_surgery_of_a_file_changes_nothing_but_sizes(tmp_path: Path, surgery: Any) -> None:
    _manifest(tmp_path, form="uneven", factory=None, surgery=surgery)
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="SS504 "):
        ss.load(tmp_path, module=nn.Linear(2, 2))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the command line; its exit code and what it said on stderr."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sparsesearch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), capsys.readouterr().err

    return call


NEEDS_TRUST = "names code, which runs only if you allow it: "


def _foreign(tmp_path: Path, model: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    """A file that code touches when it runs, and what of a recipe names that code."""
    mark = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(EVIL.format(mark=str(mark)))
    if kind == "plugin":
        return mark, {"plugins": [str(tmp_path / "evil.py")]}
    if kind == "factory":
        return mark, {"model": {"id": "evil:make"}}
    if kind == "teacher":
        return mark, {"model": {"id": str(model), "teacher": "evil:make"}}
    place = tmp_path / "model"
    shutil.copytree(model, place)
    config = json.loads((place / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"}
    (place / "config.json").write_text(json.dumps(config))
    shutil.copy(tmp_path / "evil.py", place)
    return mark, {"model": {"id": str(place), "trust_remote_code": True}}


@pytest.mark.parametrize("kind", ["plugin", "factory", "teacher", "code of the model"])
def test_a_check_of_a_recipe_runs_nothing_that_it_names(
    kind: str,
    family_dir: Make,
    tmp_path: Path,
    command: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    mark, named = _foreign(tmp_path, family_dir("llama"), kind)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(family_dir("llama"), **named)))
    for call in (["space", "check", path], ["space", "show", path], ["search", path, "--dry-run"]):
        code, output = command(*call)
        assert code == 2, call
        assert f"SS129 the recipe {NEEDS_TRUST}" in output
        assert not mark.exists()
    command("space", "check", path, "--trust-remote-code")
    assert mark.exists()


def _edited(run: Path, change: dict[str, Any]) -> None:
    """`run.yaml` with other keys, as somebody else's run directory may have them."""
    tree = yaml.safe_load((run / "run.yaml").read_text())
    for key, value in change.items():
        tree[key] = tree[key] | value if isinstance(value, dict) else value
    (run / "run.yaml").write_text(yaml.safe_dump(tree))


VERBS = [
    ("resume", "RUN"),
    ("export", "RUN", "--out", "OUT"),
    ("recover", "RUN", "--tokens", "256", "--out", "OUT"),
    ("refine", "RUN"),
    ("latency", "RUN"),
    ("evaluate", "RUN/ID", "--text", "TEXT"),
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
@pytest.mark.parametrize("kind", ["plugin", "factory", "teacher", "code of the model"])
def test_what_a_run_directory_names_is_not_run_unasked(
    verb: tuple[str, ...],
    kind: str,
    family_dir: Make,
    searched: Path,
    tmp_path: Path,
    command: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    run = tmp_path / "run"
    mark, named = _foreign(tmp_path, family_dir("llama"), kind)
    _edited(run, named)
    (tmp_path / "text.txt").write_text("a text of some words. " * 100)
    names = {
        "RUN": run,
        "RUN/ID": run / ss.Run.open(run).pick().genome.id,
        "OUT": tmp_path / "out",
        "TEXT": tmp_path / "text.txt",
    }
    call = [names.get(word, word) for word in verb]
    code, output = command(*call)
    assert code == 2
    assert f"SS129 run {run} {NEEDS_TRUST}" in output
    assert not mark.exists()
    assert not (tmp_path / "out").exists()
    command(*call, "--trust-remote-code")
    assert mark.exists()


@pytest.fixture(scope="module")
def searched(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results directory with a finished run."""
    place = tmp_path_factory.mktemp("searched")
    run_search(place / "run", family_dir("llama"))
    return place


def test_from_python_a_run_needs_trust_as_well(family_dir: Make, searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    mark, named = _foreign(tmp_path, family_dir("llama"), "plugin")
    _edited(tmp_path / "run", named)
    run = ss.Run.open(tmp_path / "run")
    for use in (lambda: run.export(run.pick(), tmp_path / "out"), lambda: run.resume()):
        with pytest.raises(InputError, match=f"SS129 run .* {NEEDS_TRUST}.*evil.py.*trust_remote_code=True"):
            use()
    assert not mark.exists()
    assert ss.Run.open(tmp_path / "run", trust_remote_code=True).export(run.pick(), tmp_path / "out")["verified"]
    assert mark.exists()


def test_a_run_that_is_gone_on_with_by_a_recipe_names_no_other_code(
    family_dir: Make, searched: Path, tmp_path: Path
) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    mark, named = _foreign(tmp_path, family_dir("llama"), "plugin")
    _edited(tmp_path / "run", named)
    launch = launched(family_dir("llama"))
    with pytest.raises(InputError, match=f"SS129 run .* {NEEDS_TRUST}.*evil.py"):
        search_stage(launch, tmp_path / "run", Reporter(quiet=True))
    assert not mark.exists()


def test_a_search_says_what_code_it_runs(family_dir: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("")
    ss.search(recipe(family_dir("llama"), plugins=[str(tmp_path / "mine.py")]), results=tmp_path, name="run")
    assert f"Runs code that the recipe names: {tmp_path / 'mine.py'}\n" in capsys.readouterr().err


def test_reading_a_run_imports_nothing_it_names(family_dir: Make, tmp_path: Path) -> None:
    mark, named = _foreign(tmp_path, family_dir("llama"), "plugin")
    run_search(tmp_path / "run", family_dir("llama"))
    _edited(tmp_path / "run", named)
    run = ss.Run.open(tmp_path / "run")
    assert run.front()
    assert run.pick("knee")
    assert not mark.exists()
