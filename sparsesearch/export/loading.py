"""Loading every exported form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from sparsesearch.errors import InputError
from sparsesearch.models.surgery import define

MANIFEST = "sparsesearch.json"


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
    stock = manifest(directory)["classes"]
    if manifest(directory)["form"] == "uneven":
        _, model_class = define(*stock)
    else:
        model_class = getattr(transformers, stock[1])
    model = model_class.from_pretrained(directory, dtype=dtype or "auto", use_safetensors=True)
    return model.to(device).eval()
