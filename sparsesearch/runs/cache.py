"""The caches beside the runs of a results directory, shared by all of them: RESULTS/.cache.

stores/KEY        level stores             teachers/KEY      outputs of the network that candidates are compared with
statistics/KEY    calibration statistics   supernets/KEY     elastic supernets

A supernet's directory holds:
index.json              key, network, sorted units, checksum, and tokens of the training
usage.json              peak memory of the training
weights.safetensors     parameters and buffers, elements sorted
sorted.safetensors, blocks/, activations/, checkpoints/    removed when it is complete
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from sparsesearch.errors import DamagedFile, problem
from sparsesearch.files import read_json

INDEX, WEIGHTS, SORTED, USAGE = "index.json", "weights.safetensors", "sorted.safetensors", "usage.json"


class Cache:
    """Paths of shared caches by their keys."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: directory `.cache` of a results directory.
        """
        self.path = path

    def store(self, key: str) -> Path:
        return self.path / "stores" / key

    def teacher(self, key: str) -> Path:
        return self.path / "teachers" / key

    def statistics(self, key: str) -> Path:
        return self.path / "statistics" / key

    def supernet(self, key: str) -> Path:
        return self.path / "supernets" / key


def weights_of(directory: Path) -> Path:
    return directory / WEIGHTS


def read_index(directory: Path) -> dict[str, Any] | None:
    """Return the index of a supernet's directory; None if it has none or a damaged one."""
    try:
        index = read_json(directory / INDEX)
    except DamagedFile:
        return None
    return index if {"key", "network", "sha256", "cuts"} <= index.keys() else None


def directory_of(start: str) -> Path:
    """Return the supernet directory of a path: the path itself, or the supernet of a run; raises InputError SS219."""
    path = Path(start).expanduser()
    if read_index(path) is not None:
        return path
    if (path / "run.json").exists():
        key = read_json(path / "run.json").get("fingerprint", {}).get("supernet")
        supernet = Cache(path.resolve().parent / ".cache").supernet(key or "")
        if key and read_index(supernet) is not None:
            return supernet
    raise problem(
        "SS219",
        f"supernet.start {start} is neither a supernet nor a run with one.",
        fix="Supernets are in RESULTS/.cache/supernets; a run with supernet: sandwich, for example, has one.",
    )


def started(start: str, weights: str, cuts: Collection[str]) -> dict[str, Any]:
    """Return the index of the supernet that training continues from.

    Args:
        weights: hash of the network that is searched.
        cuts: names of the units that cut it.

    Raises InputError SS219 if there is none, or it is of another network, or some of these units are not sorted in it.
    """
    index = read_index(directory_of(start))
    assert index is not None
    if index["network"] != weights:
        raise problem(
            "SS219",
            f"supernet.start {start} is of another network ({index['network'][:12]}, this one is {weights[:12]}).",
            fix="Give a supernet of the same model, or leave start out.",
        )
    if unsorted := sorted(set(cuts) - set(index["cuts"])):
        raise problem(
            "SS219",
            f"supernet.start {start} has not sorted the elements of {unsorted[0]}.",
            fix="Remove such units, or leave start out.",
        )
    return index
