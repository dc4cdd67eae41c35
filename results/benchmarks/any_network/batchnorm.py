"""What to do with batch normalisation after pruning: nothing, replace its statistics, or move them.

    python results/benchmarks/any_network/batchnorm.py --run RUNS_DIR/resnet56-channels-obs-75-s0 --images CIFAR_DIR

Uniform channels at four sizes of a finished run of cnn.py; accuracy on the first 2,000 test images (`--test-images`),
for statistics from 64, 256 and 1,024 calibration images. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from cnn import HERE, IMAGE

import sparsesearch as ss
from sparsesearch.config import DataConfig
from sparsesearch.data.images import image_samples
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import open_run
from sparsesearch.evaluation import accuracy
from sparsesearch.evaluation.batchnorm import RunningStatistics, reestimate
from sparsesearch.space import Limit
from sparsesearch.space.sampling import uniform_at_limits

COUNTS = (64, 256, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--test-images", type=int, default=2000, help="the first ones of test.parquet")
    args = parser.parse_args()
    run, images = args.run.resolve(), args.images.resolve()
    os.chdir(HERE)
    torch.set_num_threads(2)
    results = ss.Run.open(run).results
    supernet, space = open_run(results, TRUSTED).supernet, results.space
    task, calibration = supernet.network.task, results.run.samples("calibration")
    source = str(images / "test.parquet")
    data = DataConfig(source=source, sequences=args.test_images, take="first", image=IMAGE)  # type: ignore[arg-type]
    test = image_samples(data, None, "test")

    def measured(model: Any) -> str:
        return f"{accuracy(model, task, test, 250):.1%}"

    moving = {n: RunningStatistics(supernet, task, calibration.rows(slice(0, n)), 64) for n in COUNTS}
    heads = ["as they are", *(f"{how}, {n}" for how in ("replaced", "moved") for n in COUNTS)]
    print("| MACs kept | " + " | ".join(heads) + " |\n" + "|---" * (1 + len(heads)) + "|", flush=True)
    for percent in (100, 75, 60, 50):
        limited = space.with_limits([Limit.parse(f"macs<={percent}%")])
        genome = uniform_at_limits(limited, {unit.kind for unit in space.units})
        assert genome is not None
        cells = [measured(supernet.apply(genome))]
        for n in COUNTS:
            reestimate(supernet.apply(genome), task, calibration.rows(slice(0, n)), 64)
            supernet.forget_running_statistics()
            cells.append(measured(supernet.model))
        for n in COUNTS:
            moving[n].correct(supernet.apply(genome), genome)
            cells.append(measured(supernet.model))
        print(f"| {percent} % | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
