"""Loading every exported form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import ValidationError
from torch import nn

from sparsesearch.config import FACTORY, ImageConfig
from sparsesearch.errors import first_line, problem
from sparsesearch.export.forms.graphs import GRAPHS, Graph
from sparsesearch.export.forms.modeling_decilm import DeciLMForCausalLM
from sparsesearch.files import load_json
from sparsesearch.models.copying import move_module, plain_copy
from sparsesearch.models.load import load_strictly
from sparsesearch.models.source import call_factory
from sparsesearch.models.surgery import apply_surgery, define
from sparsesearch.models.task import TASKS
from sparsesearch.tensors import load_tensors

MANIFEST = "sparsesearch.json"
# The state of a module that transformers does not know.
STATE = "model.safetensors"


def manifest(directory: Path) -> dict[str, Any]:
    """The export's `sparsesearch.json`, with `image` as an ImageConfig or None; raises InputError SS504 where it is not
    what an export says.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        raise problem("SS504", f"{directory}: no such directory.")
    if not path.is_file():
        raise problem("SS504", f"{directory} is not an export of sparsesearch (no {MANIFEST}).")
    data = load_json(path, lambda reason: problem("SS504", f"cannot read {path}: {reason}.", fix="Export again."))
    needs: dict[str, type] = {"form": str, "task": str, "model": str, "weights_sha256": str}
    needs |= {"inputs": list, "params": int, "nonzeros": int, "max_length": int} if data.get("form") in GRAPHS else {}
    for name, kind in needs.items():
        if not isinstance(data.get(name), kind):
            raise problem(
                "SS504", f"{path}: {name} is {data.get(name)!r:.60}, not a {kind.__name__}.", fix="Export again."
            )
    if data["task"] not in TASKS:
        raise problem("SS504", f"{path}: task {data['task']!r:.60} is none.", fix=f"Allowed: {', '.join(TASKS)}.")
    if "classes" in data and data["classes"] != [name for name in data["classes"] if str(name).isidentifier()]:
        raise problem("SS504", f"{path}: classes are {data['classes']!r:.60}, not names.", fix="Export again.")
    factory = data.get("factory")
    if factory is not None and not (isinstance(factory, str) and FACTORY.fullmatch(factory)):
        raise problem("SS504", f"{path}: factory {factory!r:.60} is no package.module:function.", fix="Export again.")
    try:
        data["image"] = None if data.get("image") is None else ImageConfig.model_validate(data["image"])
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise problem("SS504", f"{path}: image {data['image']!r:.60}: {reason}.", fix="Export again.") from None
    return data


def load(
    directory: str | Path,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    module: nn.Module | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """An exported model, ready to use, whatever its form. Graphs stay on the CPU, in float32.

    Args:
        directory: what `sparsesearch export --out` wrote.
        dtype: of the weights; the checkpoint's own where None.
        device: where to put it.
        module: for the export of a module that was given from Python: the dense module; it is not changed.
        trust_remote_code: import the function that the export names as the maker of its network, and load a
            torch.export program. Nothing in the directory is run without.

    Raises InputError SS504 if the directory is not an export, or a module or trust is needed.
    """
    directory = Path(directory)
    told = manifest(directory)
    if told["form"] in GRAPHS:
        if told["form"] == "torch_export" and not trust_remote_code:
            # Besides pickles it holds expressions that are evaluated, and functions by name.
            raise problem(
                "SS504",
                f"{directory / GRAPHS['torch_export']} is a torch.export program, which can run any code.",
                fix="If you trust where it is from, give trust_remote_code=True (--trust-remote-code).",
            )
        return Graph(directory, told).eval()
    if "classes" not in told:
        return move_module(_load_module(directory, told, module, trust_remote_code), device, dtype).eval()
    if told["form"] == "uneven":
        config = directory / "config.json"
        found = load_json(
            config, lambda reason: problem("SS504", f"cannot read {config}: {reason}.", fix="Export again.")
        )
        _check_surgery(config, found.get("sparsesearch"))
        _, model_class = define(*told["classes"])
    elif told["form"] == "nemotron_nas":
        model_class = DeciLMForCausalLM
    else:
        model_class = getattr(transformers, told["classes"][1])
    model = load_strictly(model_class, directory, dtype=dtype or "auto")
    return model.to(device).eval()


def _load_module(directory: Path, told: dict[str, Any], module: nn.Module | None, trusted: bool) -> nn.Module:
    if module is None and told.get("factory") is None:
        raise problem(
            "SS504",
            f"{directory} holds a module that was given from Python.",
            fix=f"Use load({str(directory)!r}, module=m).",
        )
    if module is None and not trusted:
        raise problem(
            "SS504",
            f"{directory / MANIFEST} names {told['factory']!r} as what makes its network; that code is not "
            "run unasked.",
            fix="Give module=m, or trust_remote_code=True.",
        )
    model = plain_copy(call_factory(told["factory"], (str(Path.cwd()),)) if module is None else module)
    path = directory / STATE
    state, _ = load_tensors(
        path, lambda reason: problem("SS504", f"cannot read {path}: {reason}.", fix="Export again.")
    )
    if told.get("surgery") is not None:
        _check_surgery(directory / MANIFEST, told["surgery"])
    try:
        if told.get("surgery") is not None:
            apply_surgery(model, told["surgery"])
        model.load_state_dict(state)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise problem(
            "SS504",
            f"{directory} does not fit its module: {first_line(error)}.",
            fix="Give the dense module, or export again.",
        ) from None
    return model


def _check_surgery(path: Path, surgery: Any) -> None:
    """Raise InputError SS504 where a file's surgery is none, or makes more than the weights beside it can fill."""
    try:
        shapes = list(surgery["shapes"].values())
        pairs = all(len(pair) == 2 for pair in surgery["stand_ins"]) and all(len(a) == 3 for a in surgery["attributes"])
        valid = pairs and all(type(size) is int and size >= 0 for shape in shapes for size in shape)
    except (KeyError, TypeError, AttributeError):
        shapes, valid = [], False
    if not valid:
        raise problem("SS504", f"{path}: its surgery is not what an export says.", fix="Export again.")
    wanted, there = sum(map(math.prod, shapes)), sum(f.stat().st_size for f in path.parent.glob("*.safetensors"))
    if wanted > there:
        raise problem(
            "SS504",
            f"{path}: its surgery makes {wanted:,} numbers, and its weights have {there:,} bytes.",
            fix="Export again.",
        )
