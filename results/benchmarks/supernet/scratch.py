"""Networks of the widths that a search found, trained from random weights.

    python scratch.py --run RUNS/stitched-s0 --sizes 75,60,50,40 --images 28000 --training training.parquet \\
        --sequences 46000 --test test.parquet --test-sequences 4000 --out measured/resnet56-scratch.json

The control of 'Rethinking the value of network pruning' (Liu et al., 2019, arXiv 1810.05270). Labels, AdamW along a
cosine, batch normalisation by each minibatch's own statistics.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsesearch.config import DataConfig, load_config
from sparsesearch.data import Samples
from sparsesearch.data.text import samples_of
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import open_run
from sparsesearch.evaluation import accuracy
from sparsesearch.runs.results import RunResults
from sparsesearch.training.order import rows_at


def trained(model: nn.Module, samples: Samples, images: int, batch: int, rate: float, seed: int) -> nn.Module:
    """The network with weights of its own making."""
    torch.manual_seed(seed)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model.float().train().requires_grad_(True)
    optimizer, steps = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=5e-4), images // batch
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 20) * (1 + math.cos(math.pi * step / steps)) / 2
        rows = samples.rows(rows_at(step, batch, len(samples), seed))
        outputs = model(*rows.inputs_on_cpu())
        loss = nn.functional.cross_entropy(outputs, torch.from_numpy(rows.labels).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--sizes", default="75,60,50,40")
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--training", required=True)
    parser.add_argument("--sequences", type=int, default=46000)
    parser.add_argument("--test", required=True)
    parser.add_argument("--test-sequences", type=int, default=4000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = RunResults(args.run)
    config, opened = load_config(results.run.config), open_run(results, TRUSTED)
    task, cost = opened.supernet.network.task, results.info["objectives"][1]

    def read(like: DataConfig, source: str, count: int) -> Samples:
        data_config = DataConfig.model_validate(like.model_dump() | {"source": source, "sequences": count})
        return samples_of(data_config, task, None, "test")

    training = read(config.data.calibration, args.training, args.sequences)
    test = read(config.data.selection, args.test, args.test_sequences)
    rows: list[dict[str, Any]] = []
    for size in map(int, args.sizes.split(",")):
        maximum = results.space.dense_costs[cost] * size / 100
        pick = min((e for e in results.front if e.costs[cost] <= maximum), key=lambda e: e.quality)
        model = opened.supernet.materialise(pick.genome)
        model = trained(model, training, args.images, args.batch, args.rate, args.seed)
        value = accuracy(model, task, test, config.batch)
        rows.append({"size": size, "genome": pick.genome.id, "images": args.images, "accuracy": round(value, 4)})
        print(json.dumps(rows[-1]), flush=True)
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
