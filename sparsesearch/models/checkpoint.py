"""What lies in a checkpoint's directory, read from its small files and the headers of its weights alone.

The one place that knows which files transformers will read, and that none of them is taken on trust: every problem is
one InputError that names the file. Sizes are bounded before memory is taken.
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
# Types of weights that can be pruned, by their names in safetensors files.
FLOATS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}
# Largest number that a configuration may hold: sizes are multiplied with each other in 64 bits.
LARGEST_SIZE = 2**31


def read_document(path: Path, code: str = "SS201") -> dict[str, Any]:
    """A JSON file of a checkpoint; raises InputError with the code."""
    return load_json(path, lambda reason: problem(code, f"cannot read {path}: {reason}.", fix="Repair or replace it."))


def check_config(directory: Path) -> None:
    """Raise InputError SS201 or SS202 for a configuration that is none, or holds sizes that no network has.

    Nor may the directory hold pipes or devices, whatever of it is read later.
    """
    for path in directory.iterdir():
        try:
            check_regular(path)
        except FileNotFoundError:  # a link to what a download left out
            continue
        except OSError as error:
            raise problem("SS201", f"cannot read {path}: {error.strerror}.", fix="Repair or replace it.") from None
    path = directory / "config.json"
    for name, value in _numbers(read_document(path)):
        if value > LARGEST_SIZE:
            raise problem("SS202", f"{path}: {name} {value:,} is more than any network has.", fix="Repair it.")
    if (directory / "adapter_config.json").exists():
        raise problem(
            "SS217",
            f"{directory} holds an adapter (adapter_config.json); its weights alone are not the network.",
            fix="Merge it first: peft's merge_and_unload(), then save_pretrained().",
        )


def _numbers(tree: Any, name: str = "", depth: int = 0) -> list[tuple[str, float]]:
    """Numbers in a configuration that may be sizes, by their dotted names."""
    if isinstance(tree, dict) and depth < 8:
        return [
            found for key, value in tree.items() for found in _numbers(value, f"{name}.{key}".lstrip("."), depth + 1)
        ]
    # transformers writes 10^30 for a tokenizer's length and a few others that are no sizes.
    known = name.rpartition(".")[2].endswith(("max_length", "rope_theta", "theta", "base", "_ids", "eps"))
    return [(name, tree)] if isinstance(tree, int) and not isinstance(tree, bool) and not known else []


def weight_files(directory: Path) -> list[Path]:
    """The files that transformers reads weights from; raises InputError SS206 if they are not all there."""
    if (directory / WEIGHTS).exists() or not (directory / INDEX).exists():
        names = [WEIGHTS]
    else:
        table = read_document(directory / INDEX, "SS206").get("weight_map")
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
            raise problem("SS206", f"{directory / INDEX}: weight_map names no file for each tensor.", fix="Repair it.")
        names = sorted(set(table.values()))
    for name in names:
        if name != Path(name).name:
            raise problem("SS206", f"{directory / INDEX} names {name!r}, outside its directory.", fix="Repair it.")
        if not (directory / name).is_file():
            others = sorted(path.name for path in directory.glob("*.safetensors"))
            raise problem(
                "SS206",
                f"{directory / name} is no file; there are: {', '.join(others) or 'no .safetensors files'}.",
                fix=f"Weights are in {WEIGHTS}, or in the files that {INDEX} names.",
            )
    return [directory / name for name in names]


def tensor_headers(directory: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(type, shape) of every tensor by name; raises InputError SS206 for files that are no whole safetensors files."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in weight_files(directory):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    found[name] = part.get_dtype(), tuple(part.get_shape())
        except (OSError, SafetensorError, ValueError) as error:
            raise problem(
                "SS206", f"{path} is no whole safetensors file: {first_line(error)}.", fix="Fetch it again."
            ) from None
    if not found:
        raise problem("SS206", f"{directory} holds no tensors.", fix="Fetch its weights again.")
    return found


def same_tensors(directory: Path, one: str, other: str) -> bool:
    """Whether two tensors of a checkpoint are equal; some rows at a time are in memory."""
    parts: dict[str, Any] = {}
    with ExitStack() as stack:
        for path in weight_files(directory):
            file = stack.enter_context(safe_open(path, framework="pt"))
            parts |= {name: file.get_slice(name) for name in (one, other) if name in file.keys()}  # noqa: SIM118
        first, second = parts[one], parts[other]
        if first.get_shape() != second.get_shape():
            return False
        return all(torch.equal(first[i : i + 4096], second[i : i + 4096]) for i in range(0, first.get_shape()[0], 4096))


class Types:
    """The data types of a checkpoint's tensors: the one of most weights, and those that differ.

    Attributes:
        main: what levels are stored and models exported in.
    """

    def __init__(self, directory: Path) -> None:
        """Raises InputError SS203 for weights that are no floating-point numbers, SS206 for damaged files."""
        weights: Counter[str] = Counter()
        kinds: dict[str, set[str]] = {}
        for name, (kind, shape) in tensor_headers(directory).items():
            weights[kind] += torch.Size(shape).numel()
            kinds.setdefault(_pattern(name), set()).add(kind)
        most, _ = weights.most_common(1)[0]
        if most not in FLOATS:
            raise problem(
                "SS203",
                f"{directory}: weights are {most}; pruning needs floating-point weights (F32, BF16, F16).",
                fix="Load the original checkpoint.",
            )
        self.main = FLOATS[most]
        self._others = {p: FLOATS[k] for p, found in kinds.items() for k in found if len(found) == 1 and k in FLOATS}

    def of(self, name: str) -> torch.dtype:
        """The type of a tensor; the main one for names that the file does not have."""
        return self._others.get(_pattern(name), self.main)


def _pattern(name: str) -> str:
    """A name with every number replaced, since layers may be numbered anew."""
    return re.sub(r"\d+", "*", name)


def one_line(error: Exception, directory: Path) -> SparseSearchError:
    """The InputError for whatever a library raises while it reads a checkpoint."""
    if isinstance(error, SparseSearchError):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in lines if not line.endswith(":")), type(error).__name__).rstrip(".")[:300]
    return problem("SS201", f"cannot load {directory}: {type(error).__name__}: {reason}.", fix="Repair its files.")
