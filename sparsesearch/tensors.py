"""Tensors in safetensors files, with a checksum of their content in the metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sparsesearch.errors import DamagedFile, first_line
from sparsesearch.files import CHECKSUM, Failure, check_regular, replacing


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None, durable: bool = False
) -> None:
    """Write a safetensors file with a checksum of its tensors in its metadata."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, durable) as temporary:
        save_file(contiguous, temporary, {**(metadata or {}), CHECKSUM: _tensors_hash(contiguous)})


def is_whole(path: Path) -> bool:
    """Whether a file is there and what `write_tensors` wrote; all of it is read."""
    try:
        read_tensors(path)
    except DamagedFile:
        return False
    return True


def read_tensors(path: Path, hint: str = "") -> dict[str, torch.Tensor]:
    """What `write_tensors` wrote; raises DamagedFile SS601 if it is not that any more."""
    tensors, metadata = load_tensors(path, lambda reason: DamagedFile(path, reason, hint))
    expected = metadata.get(CHECKSUM)
    if expected is not None and expected != _tensors_hash(tensors):
        raise DamagedFile(path, "its tensors do not match their checksum", hint)
    return tensors


def load_tensors(path: Path, failure: Failure) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file of anybody's; raises `failure(reason)` if it is none."""
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise failure(error.strerror or first_line(error)) from None
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:  # header, types or sizes make no sense
        raise failure(f"not a whole safetensors file: {first_line(error)}") from None


def _tensors_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
