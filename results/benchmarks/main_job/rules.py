"""Two choices measured: error propagation while levels are built, and how a cut and a mask meet in one linear.

python results/benchmarks/main_job/rules.py --model MODEL_DIR --text TEXT_DIR --runs WORK_DIR

KL to dense on the first 16,384 tokens of valid.txt (`--windows`), uniform genomes; prints Markdown tables.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from sparsesearch.calibration import BlockPass
from sparsesearch.config import DataConfig, RunConfig
from sparsesearch.data import Samples, token_windows
from sparsesearch.evaluation import Evaluator, Teacher
from sparsesearch.models import dense_config, describe, load_model, load_tokenizer, meta_model
from sparsesearch.models.space_builder import build_space
from sparsesearch.space import Genome, Space
from sparsesearch.supernet import LevelStore, StitchedSupernet, StoreBuilder
from sparsesearch.supernet.compose import Composer, TensorLevels
from sparsesearch.supernet.propagate import propagated_weights

UNITS = [
    {"kind": "sparsity", "levels": ["50%", "60%", "70%"]},
    {"kind": "ffn_width", "align": 8, "levels": [0.25, 0.5, 0.75]},
    {"kind": "kv_groups"},
]
# Levels of (sparsity, FFN width, KV groups).
GENOMES = {
    "sparsity 50 %": (1, 0, 0),
    "sparsity 70 %": (3, 0, 0),
    "widths 75 %": (0, 1, 1),
    "widths 50 %": (0, 2, 2),
    "widths 75 %, sparsity 50 %": (1, 1, 1),
    "widths 75 %, sparsity 60 %": (2, 1, 1),
    "widths 50 %, sparsity 50 %": (1, 2, 2),
}


def genome(space: Space, levels: tuple[int, int, int]) -> Genome:
    by_kind = dict(zip(("sparsity", "ffn_width", "kv_groups"), levels, strict=True))
    return Genome.of([by_kind[u.kind] for u in space.units])


def mask_only(self: Composer, name: str, levels: TensorLevels) -> torch.Tensor:
    """The rule that was not taken: the mask on the cut's refit, without the mask's own weight updates."""
    uses = self.plans[name].uses
    if not (levels[0] and uses and levels[1] and uses[0].reader >= 0):
        return TAKEN(self, name, levels)
    positions = self.kept_positions(uses[0], levels[1])
    kept = self.tensor(name, (levels[0], 0)).index_select(uses[0].slot.axis, positions) != 0
    return torch.where(kept, TAKEN(self, name, (0, levels[1])), 0.0)


TAKEN = Composer.tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--calibration", type=int, default=256, help="windows of 256 tokens")
    parser.add_argument("--windows", type=int, default=64, help="of 256 tokens, on which KL is measured")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer, network = load_tokenizer(args.model), describe(meta_model(dense_config(args.model)))

    def windows(name: str, count: int) -> Samples:
        data = DataConfig(source=str(args.text / name), sequences=count, length=256, take="first")
        return Samples({"input_ids": token_windows(data, tokenizer, name)})

    calibration, selection = windows("calib.txt", args.calibration), windows("valid.txt", args.windows)
    teacher = Teacher.create(args.runs / "teacher", selection, network.output_shape(256))
    teacher.fill(load_model(args.model, torch.float32), network.task, 0, args.windows, 8)

    def scores(model: Any, space: Space, store: LevelStore) -> list[str]:
        evaluator = Evaluator(StitchedSupernet(model, network, space, store.files), teacher, network.task, 8)
        rows = [evaluator.losses(genome(space, g), np.arange(args.windows)).mean() for g in GENOMES.values()]
        return [f"{kl:.4f}" for kl in rows]

    print("| | " + " | ".join(GENOMES) + " |")
    print("|---" * (1 + len(GENOMES)) + "|")
    for mode in ("dense", "sequential", "expectation"):
        config = RunConfig.model_validate({"units": UNITS, "pruners": {"propagate": mode}})
        space, model, work = (
            build_space(config, network, 4),
            load_model(args.model, torch.float32),
            args.runs / mode,
        )
        builder = StoreBuilder(model, network, space, config.pruners, work, work / "statistics", torch.float32)
        blocks = BlockPass(model, network, calibration, work / "statistics", 8)
        for block in range(len(network.blocks)):
            blocks.collect(block)
            builder.build(block)
            if mode == "dense":
                blocks.advance(block)
            else:
                with propagated_weights(builder.composer, mode, block):
                    blocks.advance(block)
        blocks.close()
        builder.finish({"mode": mode})
        store = LevelStore.open(work, {"mode": mode})
        print(f"| propagate {mode} | " + " | ".join(scores(model, space, store)) + " |", flush=True)
        if mode == "dense":
            with mock.patch.object(Composer, "tensor", mask_only):
                other = scores(load_model(args.model, torch.float32), space, store)
            print("| propagate dense, mask without its updates | " + " | ".join(other) + " |", flush=True)


if __name__ == "__main__":
    main()
