"""Nothing that is loaded runs code unasked."""

from __future__ import annotations

import json
import pickle
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from support import recipe, run_search
from torch import nn

import sparsesearch as ss
from sparsesearch import cli
from sparsesearch.errors import InputError

Make = Callable[[str], Path]
EVIL = "from pathlib import Path\nfrom torch import nn\nPath({mark!r}).touch()\ndef make(): return nn.Linear(2, 2)\n"


class Touch:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _manifest(directory: Path, **told: Any) -> None:
    common = {"schema": 1, "task": "module", "model": "m", "weights_sha256": "", "image": None, "surgery": None}
    (directory / "sparsesearch.json").write_text(json.dumps(common | told))


def test_a_factory_in_a_manifest_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "evil_factory.py").write_text(EVIL.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path)
    _manifest(tmp_path, form="zeros", factory="evil_factory:make")
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"SS504 .*names 'evil_factory:make' .*not run unasked.*trust_remote_code"):
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
    told = {"form": "torch_export", "inputs": ["0"], "params": 15, "nonzeros": 15, "max_length": 1}
    _manifest(tmp_path, **told)
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


@pytest.mark.parametrize("change", [
    {"form": 3}, {"task": "evil"}, {"weights_sha256": None}, {"classes": ["../x", "y"]}, {"form": "torch_export"},
])  # fmt: skip
def test_manifests_that_are_none_are_one_line(family_dir: Make, tmp_path: Path, change: dict[str, Any]) -> None:
    _manifest(tmp_path, **({"form": "zeros", "factory": None} | change))
    with pytest.raises(InputError, match="SS504 "):
        ss.load(tmp_path)


EMPTY: dict[str, Any] = {"shapes": {}, "attributes": [], "stand_ins": []}


@pytest.mark.parametrize("surgery", [
    3, {"shapes": {}}, EMPTY | {"shapes": {"weight": [10**6, 10**6]}}, EMPTY | {"shapes": {"weight": [-1, 2]}},
    EMPTY | {"shapes": {"weight": "xx"}}, EMPTY | {"stand_ins": [["", "evil"]]},
    EMPTY | {"attributes": [["", "training", 1]]},
    EMPTY | {"attributes": [["", "forward", 1]]}, EMPTY | {"attributes": [["", "__class__", 1]]},
    EMPTY | {"attributes": [["", "in_features", "x"]]}, EMPTY | {"attributes": [["nothing.there", "in_features", 1]]},
])  # fmt: skip
def test_surgery_of_a_file_changes_nothing_but_sizes(tmp_path: Path, surgery: Any) -> None:
    _manifest(tmp_path, form="uneven", factory=None, surgery=surgery)
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="SS504 "):
        ss.load(tmp_path, module=nn.Linear(2, 2))


def test_a_check_of_a_recipe_does_not_run_its_plugins(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "evil_plugin.py").write_text(EVIL.format(mark=str(mark)))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(family_dir("llama"), plugins=[str(tmp_path / "evil_plugin.py")])))
    for call in (["space", "check", path], ["space", "show", path], ["search", path, "--dry-run"]):
        monkeypatch.setattr(sys, "argv", ["sparsesearch", *map(str, call)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        assert "SS129 the recipe imports plugins" in capsys.readouterr().err
        assert not mark.exists()
    monkeypatch.setattr(sys, "argv", ["sparsesearch", "space", "check", str(path), "--trust-remote-code"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert mark.exists()


def test_reading_a_run_imports_nothing_it_names(family_dir: Make, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "evil_reader.py").write_text(EVIL.format(mark=str(mark)))
    results = run_search(tmp_path / "run", family_dir("llama"))
    text = results.run.config.read_text().replace("plugins: []", f"plugins: [{tmp_path / 'evil_reader.py'}]")
    results.run.config.write_text(text.rpartition("# sha256")[0])
    run = ss.Run.open(tmp_path / "run")
    assert run.front()
    assert run.pick("knee")
    assert not mark.exists()
