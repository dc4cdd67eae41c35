"""Tensors in safetensors files, with a checksum of their content in the metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sparsesearch.errors import DamagedFile, first_line
from sparsesearch.files import CHECKSUM, Failure, atomic_write, check_regular


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None, durable: bool = False
) -> None:
    """Write tensors of any shapes and types to a safetensors file, with a checksum of them in its metadata."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path, durable) as temporary:
        save_file(contiguous, temporary, {**(metadata or {}), CHECKSUM: _tensors_hash(contiguous)})


def is_intact(path: Path) -> bool:
    """Return whether a file exists and is as `write_tensors` wrote it; reads all of it."""
    try:
        read_tensors(path)
    except DamagedFile:
        return False
    return True


def read_tensors(path: Path, hint: str = "") -> dict[str, torch.Tensor]:
    """Read a file that `write_tensors` wrote; raises DamagedFile SS601 if its content changed."""
    tensors, metadata = load_tensors(path, lambda reason: DamagedFile(path, reason, hint))
    expected = metadata.get(CHECKSUM)
    if expected is not None and expected != _tensors_hash(tensors):
        raise DamagedFile(path, "its tensors do not match their checksum", hint)
    return tensors


def load_tensors(path: Path, failure: Failure) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read the tensors and metadata of a safetensors file of any origin; raises `failure(reason)` if it is invalid."""
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise failure(error.strerror or first_line(error)) from None
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:  # an invalid header, type or size
        raise failure(f"not a complete safetensors file: {first_line(error)}") from None


def _tensors_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
