"""FastNAS of NVIDIA Model-Optimizer on ResNet-56 under FLOPs constraints, without training.

python fastnas.py --weights resnet56-cifar10.safetensors --images DIR --work DIR --out measured/fastnas.json

DIR of the images holds calibration.parquet, selection.parquet and test.parquet. The score of a candidate is its
accuracy on selection images, as FastNAS's guide has it, or with `--score kl` minus the KL to the dense network, which
is finer. FastNAS itself measures batch normalisation again before each score, on calibration images. What it measures
serves all three constraints.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import modelopt.torch.opt as mto
import modelopt.torch.prune as mtp
import torch
from measures import Norms, accuracy, add_image_options, dense_resnet, images, macs, pixels, write
from torch import nn

# Its defaults cut in steps of 32 channels, which leaves these layers whole: widths in eighths, as even numbers.
CHANNELS = {"channels_ratio": tuple(i / 8 for i in range(2, 9)), "kernel_size": (), "channel_divisor": 2}


class Score:
    """Of a candidate, on selection images; higher is better."""

    def __init__(self, kind: str, dense: nn.Module, selection: Any) -> None:
        self.kind, self.selection, self.calls = kind, selection, 0
        self.dense = self.outputs(dense)

    @torch.no_grad()
    def outputs(self, network: nn.Module) -> torch.Tensor:
        return torch.cat([network(x).log_softmax(-1) for x in pixels(self.selection).split(128)])

    def __call__(self, network: nn.Module) -> float:
        self.calls += 1
        if self.kind == "accuracy":
            return accuracy(network, self.selection)
        kl = nn.functional.kl_div(self.outputs(network), self.dense, reduction="batchmean", log_target=True)
        return -float(kl)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--score", choices=["accuracy", "kl"], default="accuracy")
    parser.add_argument("--selection", type=int, default=256, help="images a candidate")
    parser.add_argument("--calibration", type=int, default=128, help="images for batch normalisation")
    add_image_options(parser, "calibration", "test")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    dense = dense_resnet(args.weights, args.network)
    norms = Norms(dense, images(args.images, "calibration", args.calibration_images))
    test, whole, rows = images(args.images, "test", args.test_images), macs(dense), []
    score = Score(args.score, dense, images(args.images, "selection", args.selection))
    loader = [(x,) for x in pixels(images(args.images, "calibration", args.calibration)).split(64)]
    for percent in args.percents:
        network, _ = mtp.prune(
            dense_resnet(args.weights, args.network),
            mode=[("fastnas", {"nn.Conv2d": {"*": CHANNELS}, "nn.BatchNorm2d": {"*": {}}, "nn.Linear": {"*": {}}})],
            constraints={"flops": f"{percent}%"},
            dummy_input=torch.zeros(1, 3, 32, 32),
            config={
                "data_loader": loader,
                "collect_func": lambda batch: batch[0],
                "score_func": score,
                "checkpoint": str(args.work / f"{args.score}.pth"),
            },
        )
        baseline = accuracy(network, test)
        row: dict[str, Any] = {"macs<=": percent, "score": args.score, "macs": macs(network) / whole}
        state = {name: value.clone() for name, value in network.state_dict().items()}
        accuracies = {"its own": baseline}
        norms.replace(network)
        accuracies["replaced"] = accuracy(network, test)
        rows.append(row | {"all 10000": accuracies, "widths": _widths(network), "evaluations so far": score.calls})
        print(rows[-1], flush=True)
        network.load_state_dict(state)
        mto.save(network, args.work / f"{args.score}-{percent}.pth")
    more: dict[str, Any] = {
        "dense": {"macs": whole},
        "calibration": args.calibration,
        "selection": args.selection,
        "evaluations": score.calls,
    }
    write(args.out, rows, ["nvidia-modelopt"], **more)


def _widths(network: nn.Module) -> list[int]:
    return [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]


if __name__ == "__main__":
    main()
