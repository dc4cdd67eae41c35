"""Torch-Pruning on ResNet-56: importances, each layer alone or all ranked together, at shares of the MACs.

python torch_pruning_images.py --weights resnet56-cifar10.safetensors --images DIR \\
    --out measured/torch-pruning-images.json

DIR holds calibration.parquet and test.parquet. `uniform` and `global` cut once, with the ratio bisected to the limit;
`global, 200 steps` is the loop of Torch-Pruning's own CIFAR script. `every group` leaves it to Torch-Pruning which
layers it cuts; the others keep to the channels inside blocks.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
from measures import Norms, accuracy, add_image_options, dense_resnet, images, labels, macs, pixels, write
from torch import nn

SWEEP = 1000
WAYS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "global": {"global_pruning": True},
    "global, 200 steps": {"global_pruning": True, "iterative_steps": 200},
}
IMPORTANCES: dict[str, Callable[[], Any]] = {
    "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    "taylor": tp.importance.GroupTaylorImportance,
    "lamp": lambda: tp.importance.LAMPImportance(p=2),
}


def with_gradients(network: nn.Module, calibration: Any) -> nn.Module:
    """Gradients of the loss over all calibration images, which Torch-Pruning cuts along with the weights."""
    for x, y in zip(pixels(calibration).split(64), labels(calibration).split(64), strict=True):
        nn.functional.cross_entropy(network(x), y, reduction="sum").backward()
    return network


def pruner(network: Any, importance: str, ratio: float, **options: Any) -> Any:
    inside = [m for name, m in network.named_modules() if name in ("conv1", "linear") or name.endswith("conv2")]
    return tp.pruner.BasePruner(
        network,
        torch.zeros(1, 3, 32, 32),
        IMPORTANCES[importance](),
        pruning_ratio=ratio,
        ignored_layers=inside,
        **options,
    )


def copied(dense: nn.Module) -> nn.Module:
    network = copy.deepcopy(dense)
    for old, new in zip(dense.parameters(), network.parameters(), strict=True):
        new.grad = None if old.grad is None else old.grad.clone()
    return network


def at_limit(dense: nn.Module, importance: str, limit: int, **options: Any) -> nn.Module:
    """The largest network within the limit."""
    if "iterative_steps" in options:
        network = copied(dense)
        steps = pruner(network, importance, 1.0, **options)
        while macs(network) > limit:
            steps.step()
        return network
    low, high, best = 0.0, 1.0, None
    for _ in range(10):
        ratio, network = (low + high) / 2, copied(dense)
        pruner(network, importance, ratio, **options).step()
        if macs(network) > limit:
            low = ratio
        else:
            high, best = ratio, network
    assert best is not None
    return best


def every_group(dense: nn.Module) -> str:
    """What becomes of cutting wherever Torch-Pruning would."""
    network = copied(dense)
    options = {"pruning_ratio": 0.3, "ignored_layers": [network.linear]}
    try:
        tp.pruner.BasePruner(network, torch.zeros(1, 3, 32, 32), IMPORTANCES["l2"](), **options).step()
        network(torch.zeros(1, 3, 32, 32))
    except (IndexError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "runs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--importances", nargs="+", choices=list(IMPORTANCES), default=list(IMPORTANCES))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    add_image_options(parser, "calibration", "test")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dense = dense_resnet(args.weights, args.network)
    calibration = images(args.images, "calibration", args.calibration_images)
    norms, test = Norms(dense, calibration), images(args.images, "test", args.test_images)
    whole = macs(dense)
    more = {"dense": {"macs": whole, "accuracy": accuracy(dense, test)}, "every group": every_group(dense)}
    with_gradients(dense, calibration)
    rows = []
    for percent, importance, way in itertools.product(args.percents, args.importances, args.ways):
        cut = at_limit(dense, importance, whole * percent // 100, **WAYS[way])
        row: dict[str, Any] = {"macs<=": percent, "importance": importance, "way": way, "macs": macs(cut) / whole}
        again = {"replaced": copy.deepcopy(cut), "moved": cut}
        norms.replace(again["replaced"])
        norms.move(again["moved"])
        row |= {f"first {SWEEP}": {n: accuracy(network, test.rows(slice(0, SWEEP))) for n, network in again.items()}}
        rows.append(row | {"_": again})
        print({k: v for k, v in rows[-1].items() if k != "_"}, flush=True)
    for percent in args.percents:  # the best, which these very images choose, on all of them
        same = [row for row in rows if row["macs<="] == percent]
        best = max(same, key=lambda row: max(row[f"first {SWEEP}"].values()))
        best["all 10000"] = {name: accuracy(network, test) for name, network in best["_"].items()}
        print(percent, best["importance"], best["way"], best["all 10000"], flush=True)
    rows = [{k: v for k, v in row.items() if k != "_"} for row in rows]
    write(args.out, rows, ["torch-pruning"], calibration=len(calibration), **more)


if __name__ == "__main__":
    main()
