"""Ours on ResNet-56: one search without limits, of whose front each limit picks, and uniform channels.

python ours_images.py --weights resnet56-cifar10.safetensors --images DIR --runs DIR --out measured/ours-images.json

`--pruner taylor` chooses channels by first-order Taylor and leaves the values of what stays, as Torch-Pruning does.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from yardstick import BATCH, IMAGE, IMAGES, Norms, accuracy, dense_resnet, images, macs, write

import sparsesearch as ss
from sparsesearch.export.write import open_run
from sparsesearch.space import Limit
from sparsesearch.space.sampling import uniform_at_limits

FACTORY = Path(__file__).parent.parent / "any_network"


def recipe(args: argparse.Namespace) -> dict[str, Any]:
    data = {
        role: {"source": str(args.images / f"{role}.parquet"), "sequences": IMAGES[role], "image": IMAGE}
        for role in ("calibration", "selection")
    }
    return {
        "model": {"id": "resnet_cifar:resnet56", "weights": str(args.weights)},
        "units": [{"kind": "channels", "levels": 16, "min_kept": "20%"}],
        "pruners": {"width": args.pruner},
        "objectives": ["kl", "macs"],
        "data": data | {"batch_norm": 64},
        "batch": BATCH,
        "search": {
            "searcher": args.searcher, "seed": args.seed, "evals": args.evals, "final": 10,
            "options": args.options,
        },
        "executor": {"kind": "local"},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pruner", default="obs")
    parser.add_argument("--searcher", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evals", type=int, default=160)
    parser.add_argument("--options", type=json.loads, default={"tokens": 256, "probe_tokens": 128})
    args = parser.parse_args()
    for name in ("weights", "images", "runs", "out"):
        setattr(args, name, getattr(args, name).resolve())
    os.chdir(FACTORY)
    torch.set_num_threads(1)
    name = f"resnet56-{args.searcher}-{args.pruner}-{args.seed}"
    if (args.runs / name / "front.json").exists():
        run = ss.Run.open(args.runs / name)
    else:
        run = ss.search(recipe(args), name=name, results=args.runs, quiet=True)
    supernet, space = open_run(run.results).supernet, run.results.space
    dense, test = dense_resnet(args.weights), images(args.images, "test")
    norms, whole, rows = Norms(dense, images(args.images, "calibration")), macs(dense), []
    assert whole == space.dense_costs["macs"], "the two counters agree"
    for percent in (75, 60, 50):
        limited = space.with_limits([Limit.parse(f"macs<={percent}%")])
        within = [e for e in run.results.front if limited.feasible(e.genome)]
        uniform = uniform_at_limits(limited, {unit.kind for unit in space.units})
        assert uniform is not None
        for way, genome in (("search", min(within, key=lambda e: e.quality).genome), ("uniform", uniform)):
            row: dict[str, Any] = {"macs<=": percent, "pruner": args.pruner, "way": way}
            found = {}
            for norm in ("replaced", "moved"):
                network = supernet.materialise(genome)
                (norms.replace if norm == "replaced" else norms.move)(network)
                found[norm] = accuracy(network, test)
            rows.append(row | {"macs": macs(network) / whole, "all 10000": found})
            print(rows[-1], flush=True)
    more = {"searcher": args.searcher, "seed": args.seed, "evals": args.evals, "images read": run.results.tokens}
    write(args.out, rows, ["torch-pruning"], **more)


if __name__ == "__main__":
    main()
