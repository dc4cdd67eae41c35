"""Measures of all networks, ours and peers: accuracy and MACs on images, KL and perplexity on text."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sparsesearch.config import DataConfig
from sparsesearch.data import Samples
from sparsesearch.data.images import image_samples
from sparsesearch.evaluation import Teacher, outputs_of, perplexity
from sparsesearch.evaluation.batchnorm import batch_norms, reestimate
from sparsesearch.export.measuring.quality import text_windows
from sparsesearch.models import load_tokenizer
from sparsesearch.models.task import TASKS

sys.path.insert(0, str(Path(__file__).parents[1] / "any_network"))
import resnet_cifar

IMAGE = {"size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
IMAGES = {"calibration": 1024, "selection": 1024, "test": 10_000}
BATCH = 64
# Statistics of batch normalisation: replaced by those of so many calibration images, or moved by what so many say.
NORMS = {"replaced": 1024, "moved": 64}
WINDOW = 256
# Windows of a text for KL and for perplexity.
WINDOWS = {"kl": 64, "perplexity": 128}


def add_image_options(parser: argparse.ArgumentParser, *roles: str) -> None:
    """Add the network, the limits and the numbers of images; the defaults are those of the tables."""
    parser.add_argument("--network", default="resnet56", help="function of ../any_network/resnet_cifar.py")
    parser.add_argument("--percents", type=int, nargs="+", default=[75, 60, 50], help="limits, of the MACs")
    for role in roles:
        parser.add_argument(f"--{role}-images", type=int, default=IMAGES[role])


def dense_resnet(weights: Path, name: str = "resnet56") -> nn.Module:
    network: nn.Module = getattr(resnet_cifar, name)()
    network.load_state_dict(load_file(weights))
    return network.eval()


def images(directory: Path, role: str, count: int | None = None) -> Samples:
    """As recipes take them: the first ones of the test images, of the others so many spread over all."""
    take = "first" if role == "test" else "spread"
    data = {"source": str(directory / f"{role}.parquet"), "sequences": count or IMAGES[role], "image": IMAGE}
    return image_samples(DataConfig(**data, take=take), None, role)  # type: ignore[arg-type]


def pixels(samples: Samples) -> torch.Tensor:
    return torch.from_numpy(samples.arrays["pixel_values"])


def labels(samples: Samples) -> torch.Tensor:
    assert samples.labels is not None
    return torch.from_numpy(samples.labels)


@torch.no_grad()
def accuracy(network: nn.Module, samples: Samples) -> float:
    network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    right = 0
    for x, y in zip(pixels(samples).split(250), labels(samples).split(250), strict=True):
        right += int((network(x).argmax(-1) == y).sum())
    return right / len(samples)


def macs(network: nn.Module) -> int:
    """Multiply-adds of convolutions and linears for one image, counted by PyTorch."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 32))
    return int(counter.get_total_flops()) // 2


class Norms:
    """Measures the statistics of batch normalisation of a cut network again, on calibration images."""

    def __init__(self, dense: nn.Module, calibration: Samples) -> None:
        self.calibration = calibration
        self.own = {path: _channels(layer) for path, layer in batch_norms(dense).items()}
        self.dense = self._measured(dense, NORMS["moved"])
        for path, layer in batch_norms(dense).items():
            _set(layer, self.own[path][2], self.own[path][3])

    def replace(self, network: nn.Module) -> None:
        self._measured(network, NORMS["replaced"])

    def move(self, network: nn.Module) -> None:
        """As `sparsesearch.evaluation.batchnorm` does; a channel is known by its own four numbers."""
        layers = batch_norms(network)
        statistics = {path: _channels(layer) for path, layer in layers.items()}
        for path, (mean, variance) in self._measured(network, NORMS["moved"]).items():
            kept = (statistics[path][:, :, None] == self.own[path][:, None]).all(0).int().argmax(1)
            dense_mean, dense_variance = (moment[kept] for moment in self.dense[path])
            ratio = (variance + layers[path].eps) / (dense_variance + layers[path].eps)
            own_mean, own_variance = statistics[path][2:]
            moved = ((own_variance + layers[path].eps) * ratio - layers[path].eps).clamp(min=0)
            _set(layers[path], mean + (own_mean - dense_mean) * ratio.sqrt(), moved)

    def _measured(self, network: nn.Module, count: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        reestimate(network, TASKS["module"], self.calibration.rows(slice(0, count)), BATCH)
        return {p: (m.running_mean.clone(), m.running_var.clone()) for p, m in batch_norms(network).items()}  # type: ignore[union-attr]


def _channels(layer: Any) -> torch.Tensor:
    return torch.stack([layer.weight, layer.bias, layer.running_mean, layer.running_var]).detach().clone()


def _set(layer: Any, mean: torch.Tensor, variance: torch.Tensor) -> None:
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)


class Text:
    """KL to the dense model on the first half of a text that nobody saw, perplexity on its second half."""

    def __init__(self, model: Path, valid: Path, work: Path, dense: Any, batch: int = 16) -> None:
        windows = text_windows(load_tokenizer(model), valid, WINDOW)
        first, second = np.array_split(windows, 2)
        first, self.second = first[: WINDOWS["kl"]], second[: WINDOWS["perplexity"]]
        self.batch, self.task = batch, TASKS["causal"]
        self.teacher = Teacher.create(work, Samples({"input_ids": first}), (WINDOW, dense.config.vocab_size))
        self.teacher.fill(dense, self.task, 0, len(first), batch)

    def __call__(self, model: Any) -> dict[str, float]:
        samples, losses = self.teacher.samples, []
        for start in range(0, len(samples), self.batch):
            rows = np.arange(start, min(start + self.batch, len(samples)))
            losses.append(self.teacher.losses(outputs_of(model, self.task, samples.rows(rows)), rows))
        value = perplexity(model, self.second, self.batch)
        return {"kl": round(float(torch.cat(losses).mean()), 4), "perplexity": round(value, 2)}


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()


def write(out: Path, rows: list[dict[str, Any]], packages: list[str], **more: Any) -> None:
    header = {"commit": commit(), "versions": {name: version(name) for name in ["torch", *packages]}, **more}
    text = json.dumps(header, indent=1)[:-2] + ',\n "rows": [\n  ' + ",\n  ".join(map(json.dumps, rows)) + "\n ]\n}\n"
    out.write_text(text)
