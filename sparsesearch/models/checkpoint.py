"""Reads and checks a checkpoint's directory: its small files and the headers of its weights.

Lists the files that transformers will read and trusts none of them: every problem is one InputError that names the
file. Sizes are checked before memory is allocated.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from sparsesearch.errors import SparseSearchError, first_line, problem
from sparsesearch.files import check_regular, load_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Data types of weights that can be pruned, by their names in safetensors files.
FLOAT_TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}
# Largest number that a configuration may contain: sizes are multiplied with each other in 64 bits.
LARGEST_SIZE = 2**31


def read_document(path: Path, code: str = "SS201") -> dict[str, Any]:
    """Read a JSON file of a checkpoint; raises InputError with the code."""
    return load_json(path, lambda reason: problem(code, f"cannot read {path}: {reason}.", fix="Repair or replace it."))


def check_config(directory: Path) -> None:
    """Raise InputError SS201 or SS202 if the configuration is invalid or contains a size that no network has.

    Also raises SS201 for pipes and devices in the directory, since any of its files may be read later, and SS217 for an
    adapter.
    """
    for path in directory.iterdir():
        try:
            check_regular(path)
        except FileNotFoundError:  # a link to a file that was not downloaded
            continue
        except OSError as error:
            raise problem("SS201", f"cannot read {path}: {error.strerror}.", fix="Repair or replace it.") from None
    path = directory / "config.json"
    for name, value in _numbers(read_document(path)):
        if value > LARGEST_SIZE:
            raise problem("SS202", f"{path}: {name} {value:,} is larger than in any network.", fix="Repair it.")
    if (directory / "adapter_config.json").exists():
        raise problem(
            "SS217",
            f"{directory} holds an adapter (adapter_config.json), whose weights are only a part of the network.",
            fix="Merge it first: peft's merge_and_unload(), then save_pretrained().",
        )


def _numbers(tree: Any, name: str = "", depth: int = 0) -> list[tuple[str, float]]:
    """Return (dotted name, value) of the numbers in a configuration that may be sizes."""
    if isinstance(tree, dict) and depth < 8:
        return [
            number for key, value in tree.items() for number in _numbers(value, f"{name}.{key}".lstrip("."), depth + 1)
        ]
    # Numbers that are not sizes, such as a tokenizer's length, for which transformers writes 10^30.
    is_no_size = name.rpartition(".")[2].endswith(("max_length", "rope_theta", "theta", "base", "_ids", "eps"))
    return [(name, tree)] if isinstance(tree, int) and not isinstance(tree, bool) and not is_no_size else []


def weight_files(directory: Path) -> list[Path]:
    """Return the files that transformers reads weights from; raises InputError SS206 if one is missing."""
    if (directory / WEIGHTS).exists() or not (directory / INDEX).exists():
        names = [WEIGHTS]
    else:
        table = read_document(directory / INDEX, "SS206").get("weight_map")
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
            raise problem(
                "SS206", f"{directory / INDEX}: weight_map must name a file for each tensor.", fix="Repair it."
            )
        names = sorted(set(table.values()))
    for name in names:
        if name != Path(name).name:
            raise problem("SS206", f"{directory / INDEX} names {name!r}, outside its directory.", fix="Repair it.")
        if not (directory / name).is_file():
            others = sorted(path.name for path in directory.glob("*.safetensors"))
            raise problem(
                "SS206",
                f"{directory / name} is missing; the directory has {', '.join(others) or 'no .safetensors files'}.",
                fix=f"Weights must be in {WEIGHTS}, or in the files that {INDEX} names.",
            )
    return [directory / name for name in names]


def tensor_headers(directory: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return (type, shape) of every tensor by name; raises InputError SS206 for damaged safetensors files."""
    headers: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in weight_files(directory):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    tensor = file.get_slice(name)
                    headers[name] = tensor.get_dtype(), tuple(tensor.get_shape())
        except (OSError, SafetensorError, ValueError) as error:
            raise problem(
                "SS206", f"{path} is no whole safetensors file: {first_line(error)}.", fix="Download it again."
            ) from None
    if not headers:
        raise problem("SS206", f"{directory} holds no tensors.", fix="Download its weights again.")
    return headers


def same_tensors(directory: Path, first_name: str, second_name: str) -> bool:
    """Return whether two tensors of a checkpoint are equal; reads 4096 rows at a time."""
    slices: dict[str, Any] = {}
    with ExitStack() as stack:
        for path in weight_files(directory):
            file = stack.enter_context(safe_open(path, framework="pt"))
            names = [name for name in (first_name, second_name) if name in file.keys()]  # noqa: SIM118
            slices |= {name: file.get_slice(name) for name in names}
        first, second = slices[first_name], slices[second_name]
        if first.get_shape() != second.get_shape():
            return False
        return all(torch.equal(first[i : i + 4096], second[i : i + 4096]) for i in range(0, first.get_shape()[0], 4096))


class TensorTypes:
    """The data types of a checkpoint's tensors: that of most weights, and those that differ.

    Attributes:
        main: type of most weights, in which levels are stored and models exported.
    """

    def __init__(self, directory: Path) -> None:
        """Raises InputError SS203 if weights are not floating-point numbers, SS206 for damaged files."""
        weights: Counter[str] = Counter()
        kinds: dict[str, set[str]] = {}
        for name, (kind, shape) in tensor_headers(directory).items():
            weights[kind] += torch.Size(shape).numel()
            kinds.setdefault(_pattern(name), set()).add(kind)
        most, _ = weights.most_common(1)[0]
        if most not in FLOAT_TYPES:
            raise problem(
                "SS203",
                f"{directory}: weights are {most}; pruning needs floating-point weights (F32, BF16, F16).",
                fix="Load the original checkpoint.",
            )
        self.main = FLOAT_TYPES[most]
        unanimous = {pattern: next(iter(types)) for pattern, types in kinds.items() if len(types) == 1}
        self._others = {pattern: FLOAT_TYPES[kind] for pattern, kind in unanimous.items() if kind in FLOAT_TYPES}

    def of(self, name: str) -> torch.dtype:
        """Return the type of a tensor; the main one if the checkpoint has no tensor of that name."""
        return self._others.get(_pattern(name), self.main)


def _pattern(name: str) -> str:
    """Return a name with every number replaced, since exports may renumber layers."""
    return re.sub(r"\d+", "*", name)


def unreadable_checkpoint(error: Exception, directory: Path) -> SparseSearchError:
    """Return the InputError SS201, or the error itself if it is our own, for an error while reading a checkpoint."""
    if isinstance(error, SparseSearchError):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in lines if not line.endswith(":")), type(error).__name__).rstrip(".")[:300]
    return problem("SS201", f"cannot load {directory}: {type(error).__name__}: {reason}.", fix="Repair its files.")
