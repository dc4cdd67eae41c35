"""Loading every exported form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from sparsesearch.errors import InputError
from sparsesearch.export.graphs import GRAPHS, Graph
from sparsesearch.export.modeling_decilm import DeciLMForCausalLM
from sparsesearch.models.copying import own_copy, placed
from sparsesearch.models.load import load_whole
from sparsesearch.models.source import build
from sparsesearch.models.surgery import apply_surgery, define

MANIFEST = "sparsesearch.json"
# The state of a module that transformers does not know.
STATE = "model.safetensors"


def manifest(directory: Path) -> dict[str, Any]:
    """The export's `sparsesearch.json`; raises InputError SS504 where there is none."""
    path = directory / MANIFEST
    if not directory.is_dir():
        raise InputError("SS504", f"{directory}: no such directory.")
    if not path.is_file():
        raise InputError("SS504", f"{directory} is not an export of sparsesearch (no {MANIFEST}).")
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def load(
    directory: str | Path, dtype: torch.dtype | None = None, device: str = "cpu", module: nn.Module | None = None
) -> Any:
    """An exported model, ready to use, whatever its form; no remote code is run. Graphs stay on the CPU, in float32.

    Args:
        directory: what `sparsesearch export --out` wrote.
        dtype: of the weights; the checkpoint's own where None.
        device: where to put it.
        module: for the export of a module that was given from Python: the dense module; it is not changed.

    Raises InputError SS504 where the directory is not an export, or a module is needed.
    """
    directory = Path(directory)
    told = manifest(directory)
    if told["form"] in GRAPHS:
        return Graph(directory, told).eval()
    if "classes" not in told:
        return placed(_load_module(directory, told, module), device, dtype).eval()
    if told["form"] == "uneven":
        _, model_class = define(*told["classes"])
    elif told["form"] == "nemotron_nas":
        model_class = DeciLMForCausalLM
    else:
        model_class = getattr(transformers, told["classes"][1])
    model = load_whole(model_class, directory, dtype=dtype or "auto")
    return model.to(device).eval()


def _load_module(directory: Path, told: dict[str, Any], module: nn.Module | None) -> nn.Module:
    if module is None and told["factory"] is None:
        raise InputError(
            "SS504",
            f"{directory} holds a module that was given from Python.",
            f"Use load({str(directory)!r}, module=m).",
        )
    model = own_copy(build(told["factory"], (str(Path.cwd()),)) if module is None else module)
    state = load_file(directory / STATE)
    if told["surgery"] is not None:
        apply_surgery(model, told["surgery"])
    model.load_state_dict(state)
    return model
