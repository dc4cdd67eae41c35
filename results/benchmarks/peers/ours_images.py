"""Ours on ResNet-56: one search a limit, and uniform channels.

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
from measures import BATCH, IMAGE, Norms, accuracy, add_image_options, dense_resnet, images, macs, write

import sparsesearch as ss
from sparsesearch.space.sampling import uniform_at_limits

FACTORY = Path(__file__).parent.parent / "any_network"


def recipe(args: argparse.Namespace, limits: list[str]) -> dict[str, Any]:
    data = {
        role: {"source": str(args.images / f"{role}.parquet"), "sequences": count, "image": IMAGE}
        for role, count in (("calibration", args.calibration_images), ("selection", args.selection_images))
    }
    return {
        "model": {"id": f"resnet_cifar:{args.network}", "weights": str(args.weights)},
        "units": [{"kind": "channels", "levels": 16, "min_kept": "20%"}],
        "pruners": {"width": args.pruner},
        "limits": limits,
        "objectives": ["kl", "macs"],
        "data": data | {"batch_norm": 64},
        "batch": BATCH,
        "search": {
            "searcher": args.searcher,
            "seed": args.seed,
            "evals": args.evals,
            "final": 4,
            "options": args.options,
        },
        "executor": {"kind": "local"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pruner", default="obs")
    parser.add_argument("--searcher", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evals", type=int, default=110)
    parser.add_argument("--options", type=json.loads, default={"tokens": 256, "probes": 2, "probe_tokens": 128})
    add_image_options(parser, "calibration", "selection", "test")
    args = parser.parse_args()
    for name in ("weights", "images", "runs", "out"):
        setattr(args, name, getattr(args, name).resolve())
    os.chdir(FACTORY)
    torch.set_num_threads(1)
    dense, test = dense_resnet(args.weights, args.network), images(args.images, "test", args.test_images)
    calibration = images(args.images, "calibration", args.calibration_images)
    norms, whole, rows, read = Norms(dense, calibration), macs(dense), [], []
    for percent in args.percents:
        name = f"{args.network}-{args.searcher}-{args.pruner}-{percent}-{args.seed}"
        run = ss.search(recipe(args, [f"macs<={percent}%"]), name=name, results=args.runs, quiet=True)
        read.append(run.results.tokens)
        supernet, space = run.reopened.supernet, run.results.space
        assert whole == space.dense_costs["macs"], "the two counters agree"
        uniform = uniform_at_limits(space, {unit.kind for unit in space.units})
        assert uniform is not None
        for way, genome in (("search", min(run.results.front, key=lambda e: e.quality).genome), ("uniform", uniform)):
            row: dict[str, Any] = {"macs<=": percent, "pruner": args.pruner, "way": way}
            accuracies = {}
            for norm in ("replaced", "moved"):
                network = supernet.materialise(genome)
                (norms.replace if norm == "replaced" else norms.move)(network)
                accuracies[norm] = accuracy(network, test)
            rows.append(row | {"macs": macs(network) / whole, "all 10000": accuracies})
            print(rows[-1], flush=True)
    more = {
        "searcher": args.searcher,
        "options": args.options,
        "seed": args.seed,
        "evals": args.evals,
        "images read": read,
    }
    write(args.out, rows, ["torch-pruning"], **more)


if __name__ == "__main__":
    main()
