"""Small networks to try parts on: recipes that take a second, random images, and a network with a level store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sparsesearch.calibration import calibration_pass
from sparsesearch.config import RunConfig
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.evaluation import qualities_of
from sparsesearch.models import dense_config, describe, load_model, meta_model
from sparsesearch.models.space_builder import modules_of
from sparsesearch.models.task import task_of
from sparsesearch.space import Space
from sparsesearch.supernet import LevelStore, StitchedSupernet, StoreBuilder
from sparsesearch.supernet.stitched import Execution

ALL_KINDS: list[dict[str, Any]] = [
    {"kind": "sparsity", "levels": ["40%", "75%"]},
    {"kind": "ffn_width", "levels": [0.75, 0.5, 0.25]},
    {"kind": "kv_groups"},
    {"kind": "drop_attention"},
    {"kind": "drop_ffn"},
    {"kind": "experts"},
    {"kind": "expert_width", "levels": 2, "min_kept": "50%"},
    {"kind": "kernel"},
]


def kinds_of(model: Path | str, heads: bool = True) -> list[dict[str, Any]]:
    """Return units, as recipes have them, of every kind that a checkpoint's network has.

    Args:
        heads: whether query heads are cut in one block.
    """
    config = dense_config(Path(model))
    network = describe(meta_model(config))
    kinds = [family for family in ALL_KINDS if modules_of(family["kind"], network)]
    if heads and modules_of("q_heads", network):  # one attention loses KV groups or query heads, never both
        kinds = [k | {"target": "*.[!1].*"} if k["kind"] == "kv_groups" else k for k in kinds]
        kinds.append({"kind": "q_heads", "target": "*.1.*"})
    return kinds


def image_folder(path: Path, count: int = 8, seed: int = 0) -> Path:
    """Return a folder of random images of two classes, made on first use."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        file = path / f"class{index % 2}" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file)
    return path


def image_data(work: Path, size: int = 16) -> dict[str, Any]:
    """Return the `data` of a recipe for a vision model, whose random images of `size` pixels a side lie in `work`."""
    image = {"size": size, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    return {
        role: {"source": str(image_folder(work / role)), "sequences": 6, "image": image, "take": "first"}
        for role in ("calibration", "selection")
    } | {"allow_shared": True}


def _parts_for_task(model: Path, images: Path) -> dict[str, Any]:
    """Return the parts of a recipe that depend on what a checkpoint is for."""
    if not (model / "config.json").exists():
        return {}
    config = dense_config(model)
    task = task_of(config)
    parts: dict[str, Any] = {"objectives": [qualities_of(task)[0], "nonzeros"]}
    size = getattr(config, "image_size", None)
    return parts | ({"data": image_data(images, size or 16)} if task.data == "image" else {})


def recipe(model: Path | str, /, images: Path | None = None, **changes: Any) -> dict[str, Any]:
    """Return the recipe of a random search that takes a second.

    Args:
        model: a checkpoint's directory, or `demo`.
        images: where images for it are made; None: in the checkpoint's directory.
    """
    tree: dict[str, Any] = {
        "model": {"id": str(model)},
        "units": [{"kind": "ffn_width", "levels": 3}, {"kind": "kv_groups"}],
        "objectives": ["kl", "nonzeros"],
        "data": {
            "calibration": {"source": "stdlib:calibration", "sequences": 6, "length": 16, "take": "first"},
            "selection": {"source": "stdlib:selection", "sequences": 6, "length": 16, "take": "first"},
        },
        "batch": 4,
        "search": {"searcher": "random", "evals": 12, "final": 4, "options": {"batch": 6, "tokens": 32, "sizes": 2}},
        "executor": {"kind": "local"},
    }
    return tree | _parts_for_task(Path(model), images or Path(model)) | changes


def launch_of(model: Path | str, /, **changes: Any) -> Launch:
    """Return the prepared launch of `recipe`."""
    return prepare(RunConfig.model_validate(recipe(model, **changes)))


class BuiltNetwork:
    """A checkpoint's network with a level store of all kinds of units that it has.

    Attributes:
        launch: prepared from `recipe`.
        store: the levels.
        space: with measured nonzeros.
    """

    def __init__(self, directory: Path, work: Path, **changes: Any) -> None:
        """
        Args:
            directory: of the checkpoint.
            work: where the store is built.
            changes: of the recipe.
        """
        self.launch: Launch = launch_of(directory, **{"units": kinds_of(directory), **changes})
        self.directory, network = directory, self.launch.network
        model = load_model(directory, torch.float32)
        builder = StoreBuilder(
            model, network, self.launch.space, self.launch.config.pruners, work, work / "statistics", torch.float32
        )
        blocks = calibration_pass(model, network, self.launch.samples["calibration"], work / "statistics", 4)
        for block in range(len(network.blocks)):
            blocks.collect(block)
            blocks.advance(block)
            builder.build(block)
        blocks.close()
        builder.finish(self.launch.store_key)
        self.store = LevelStore.open(work, self.launch.store_key)
        self.space: Space = self.launch.space.with_nonzeros(self.store.nonzeros)

    def supernet(self, execution: Execution) -> StitchedSupernet:
        """Return a supernet of a fresh copy of the network."""
        model = load_model(self.directory, torch.float32)
        compensate = self.launch.config.pruners.compensate
        return StitchedSupernet(
            model, self.launch.network, self.space, self.store.files, execution, compensate=compensate
        )
