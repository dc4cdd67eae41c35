"""Loads exports of every form."""

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
# File of the state of a module that is not a transformers model.
STATE = "model.safetensors"


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read and check an export's `sparsesearch.json`, with `image` as an ImageConfig or None.

    Raises InputError SS504 if it is missing or not valid.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        raise problem("SS504", f"{directory}: no such directory.")
    if not path.is_file():
        raise problem("SS504", f"{directory} is not an export of sparsesearch (no {MANIFEST}).")
    data = load_json(path, lambda reason: problem("SS504", f"cannot read {path}: {reason}.", fix="Export again."))
    types: dict[str, type] = {"form": str, "task": str, "model": str, "weights_sha256": str}
    types |= {"inputs": list, "params": int, "nonzeros": int, "max_length": int} if data.get("form") in GRAPHS else {}
    for name, kind in types.items():
        if not isinstance(data.get(name), kind):
            raise problem(
                "SS504", f"{path}: {name} is {data.get(name)!r:.60}, not a {kind.__name__}.", fix="Export again."
            )
    if data["task"] not in TASKS:
        fix = f"Allowed: {', '.join(TASKS)}."
        raise problem("SS504", f"{path}: task {data['task']!r:.60} does not exist.", fix=fix)
    if "classes" in data and data["classes"] != [name for name in data["classes"] if str(name).isidentifier()]:
        raise problem("SS504", f"{path}: classes are {data['classes']!r:.60}, not names.", fix="Export again.")
    factory = data.get("factory")
    if factory is not None and not (isinstance(factory, str) and FACTORY.fullmatch(factory)):
        raise problem("SS504", f"{path}: factory {factory!r:.60} is not package.module:function.", fix="Export again.")
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
    """Load an exported model of any form, ready to use. Graphs stay on the CPU, in float32.

    Args:
        directory: directory that `sparsesearch export --out` wrote.
        dtype: data type of the weights; None: that of the checkpoint.
        device: device of the model.
        module: the dense module, if the exported network is a module passed from Python; it is not changed.
        trust_remote_code: allow to call the factory function that the export names, and to load a torch.export program.
            Otherwise no code in the directory is run.

    Raises InputError SS504 if the directory is not an export, or a module or trust is needed.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    if manifest["form"] in GRAPHS:
        if manifest["form"] == "torch_export" and not trust_remote_code:
            # It contains pickles, expressions that are evaluated, and functions by name.
            raise problem(
                "SS504",
                f"{directory / GRAPHS['torch_export']} is a torch.export program, which can run any code.",
                fix="If you trust its source, give trust_remote_code=True (--trust-remote-code).",
            )
        return Graph(directory, manifest).eval()
    if "classes" not in manifest:
        return move_module(_load_module(directory, manifest, module, trust_remote_code), device, dtype).eval()
    if manifest["form"] == "uneven":
        path = directory / "config.json"
        config = load_json(path, lambda reason: problem("SS504", f"cannot read {path}: {reason}.", fix="Export again."))
        _check_surgery(path, config.get("sparsesearch"))
        _, model_class = define(*manifest["classes"])
    elif manifest["form"] == "nemotron_nas":
        model_class = DeciLMForCausalLM
    else:
        model_class = getattr(transformers, manifest["classes"][1])
    model = load_strictly(model_class, directory, dtype=dtype or "auto")
    return model.to(device).eval()


def _load_module(directory: Path, manifest: dict[str, Any], module: nn.Module | None, trusted: bool) -> nn.Module:
    if module is None and manifest.get("factory") is None:
        raise problem(
            "SS504",
            f"{directory} holds a module that was given from Python.",
            fix=f"Use load({str(directory)!r}, module=m).",
        )
    if module is None and not trusted:
        raise problem(
            "SS504",
            f"{directory / MANIFEST} names the factory {manifest['factory']!r} of its network; that code is not "
            "run unasked.",
            fix="Give module=m, or trust_remote_code=True.",
        )
    model = plain_copy(call_factory(manifest["factory"], (str(Path.cwd()),)) if module is None else module)
    path = directory / STATE
    state, _ = load_tensors(
        path, lambda reason: problem("SS504", f"cannot read {path}: {reason}.", fix="Export again.")
    )
    if manifest.get("surgery") is not None:
        _check_surgery(directory / MANIFEST, manifest["surgery"])
    try:
        if manifest.get("surgery") is not None:
            apply_surgery(model, manifest["surgery"])
        model.load_state_dict(state)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise problem(
            "SS504",
            f"{directory} does not fit its module: {first_line(error)}.",
            fix="Give the dense module, or export again.",
        ) from None
    return model


def _check_surgery(path: Path, surgery: Any) -> None:
    """Raise InputError SS504 if a file's surgery is not valid, or its tensors are larger than the weight files."""
    try:
        shapes = list(surgery["shapes"].values())
        pairs = all(len(pair) == 2 for pair in surgery["stand_ins"]) and all(len(a) == 3 for a in surgery["attributes"])
        valid = pairs and all(type(size) is int and size >= 0 for shape in shapes for size in shape)
    except (KeyError, TypeError, AttributeError):
        shapes, valid = [], False
    if not valid:
        raise problem("SS504", f"{path}: its surgery is not valid.", fix="Export again.")
    numbers = sum(map(math.prod, shapes))
    weight_bytes = sum(file.stat().st_size for file in path.parent.glob("*.safetensors"))
    if numbers > weight_bytes:
        raise problem(
            "SS504",
            f"{path}: its surgery has {numbers:,} numbers, but its weights have only {weight_bytes:,} bytes.",
            fix="Export again.",
        )
