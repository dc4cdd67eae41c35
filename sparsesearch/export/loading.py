"""Loading every exported form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sparsesearch.errors import InputError
from sparsesearch.models import shape

MANIFEST = "sparsesearch.json"

# With these registered, transformers' Auto classes read uneven exports too, without remote code.
for _name in ("Llama", "Mistral", "Qwen2", "Qwen3"):
    _config = getattr(shape, f"SparseSearch{_name}Config")
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModelForCausalLM.register(_config, getattr(shape, f"SparseSearch{_name}ForCausalLM"), exist_ok=True)


def manifest(directory: Path) -> dict[str, Any]:
    """The export's `sparsesearch.json`; raises InputError SS504 where there is none."""
    path = directory / MANIFEST
    if not path.is_file():
        raise InputError("SS504", f"{directory} is not an export of sparsesearch (no {MANIFEST}).")
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def load(directory: str | Path, dtype: torch.dtype | None = None, device: str = "cpu") -> Any:
    """An exported model, ready to use, whatever its form; no remote code is run.

    Args:
        directory: what `sparsesearch export --out` wrote.
        dtype: of the weights; the checkpoint's own where None.
        device: where to put it.

    Raises InputError SS504 where the directory is not an export.
    """
    directory = Path(directory)
    manifest(directory)
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype or "auto", use_safetensors=True, trust_remote_code=False
    )
    return model.to(device).eval()
