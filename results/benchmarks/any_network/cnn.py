"""ResNets on CIFAR-10 JPEGs without training: channels against MACs, sparsity against nonzeros, one search a limit.

    python results/benchmarks/any_network/cnn.py channels|sparsity --depths 20 56 --seeds 0 1 2 --evals 300 \
        --models MODELS_DIR --images CIFAR_DIR --runs RUNS_DIR

MODELS_DIR holds resnet{20,56}-cifar10.safetensors, CIFAR_DIR train.parquet and test.parquet. Calibration images come
from the first half of the training images, selection images from the second; accuracy is on the first 4,000 test
images (`--test-images`). One JSON line a result goes to RUNS_DIR/cnn.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import torch
from common import commit

import sparsesearch as ss
from sparsesearch.allocation import allocation_named, densities_by_name, genome_at_limits
from sparsesearch.allocation.measured_evidence import measure_evidence
from sparsesearch.config import DataConfig
from sparsesearch.data.images import image_samples
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import ReopenedRun, open_run
from sparsesearch.evaluation import accuracy
from sparsesearch.space import Genome, Limit
from sparsesearch.space.sampling import uniform_at_limits

HERE = Path(__file__).parent
IMAGE = {"size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
ALLOCATIONS = ("erk", "lamp", "global_magnitude")
TARGETS = {"channels": [75, 60, 50], "sparsity": [80, 90, 95]}


def halves(images: Path, runs: Path) -> dict[str, str]:
    """The training images in two files."""
    table = None
    sources = {}
    for i, role in enumerate(("calibration", "selection")):
        path = runs / f"{role}.parquet"
        if not path.exists():
            table = table or parquet.read_table(images / "train.parquet")
            half = table.num_rows // 2
            parquet.write_table(table.slice(i * half, half), path)
        sources[role] = str(path)
    return sources


def recipe(args: argparse.Namespace, depth: int, seed: int, limit: str) -> dict[str, Any]:
    data = {
        role: {"source": source, "sequences": getattr(args, role), "image": IMAGE}
        for role, source in halves(args.images, args.runs).items()
    }
    channels = args.part == "channels"
    state = args.models / f"resnet{depth}-cifar10.safetensors"
    unit = {"kind": "channels", "levels": 16, "min_kept": "25%"} if channels else {"kind": "sparsity", "levels": 24}
    return {
        "model": {"id": f"resnet_cifar:resnet{depth}", "weights": str(state)},
        "units": [unit if channels else unit | {"max_sparsity": "97%"}],
        "pruners": {"width": args.pruner or "obs"} if channels else {"sparsity": args.pruner or "sparsegpt"},
        "limits": [limit],
        "objectives": ["kl", "macs" if channels else "nonzeros"],
        "data": data | {"batch_norm": 64},
        "batch": 64,
        "search": {
            "searcher": "nsga2",
            "seed": seed,
            "evals": args.evals,
            "final": 8,
            "seeds": list(ALLOCATIONS),
            "options": {"tokens": 256, "population": 32, "sizes": 4},
        },
        "executor": {"kind": args.executor, "workers": 2},
    }


def rules(opened: ReopenedRun, run: Any, limit: Limit) -> dict[str, Genome]:
    """Uniform, and the closed-form allocations, at a limit."""
    space = run.results.space.with_limits([limit])
    genomes = {"uniform": uniform_at_limits(space, {u.kind for u in space.units})}
    needs = {need for name in ALLOCATIONS for need in allocation_named(name).needs}
    model = opened.supernet.apply(space.dense)
    evidence = measure_evidence(model, opened.supernet.network, space, needs, Path(), Path())
    for name in ALLOCATIONS:
        genomes[name] = genome_at_limits(space, densities_by_name(name, evidence))
    return {name: genome for name, genome in genomes.items() if genome is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(TARGETS))
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--targets", type=int, nargs="+", help="percent; of the part's own where not given")
    parser.add_argument("--evals", type=int, default=300)
    parser.add_argument("--pruner", help="obs for channels and sparsegpt for sparsity where not given")
    parser.add_argument("--calibration", type=int, default=1024, help="images")
    parser.add_argument("--selection", type=int, default=512, help="images")
    parser.add_argument("--test-images", type=int, default=4000, help="the first ones of test.parquet")
    parser.add_argument("--executor", choices=["ray", "local"], default="ray")
    args = parser.parse_args()
    args.runs = args.runs.resolve()
    args.runs.mkdir(parents=True, exist_ok=True)
    args.models, args.images = args.models.resolve(), args.images.resolve()
    os.chdir(HERE)  # where workers look for the factory
    torch.set_num_threads(2)
    source = str(args.images / "test.parquet")
    data = DataConfig(source=source, sequences=args.test_images, take="first", image=IMAGE)  # type: ignore[arg-type]
    test = image_samples(data, None, "test")
    with (args.runs / "cnn.jsonl").open("a") as out:
        for depth, target in itertools.product(args.depths, args.targets or TARGETS[args.part]):
            known: dict[str, Any] = {}
            for seed in args.seeds:
                line = row(args, depth, seed, target, test, known) | {"commit": commit(), "evals": args.evals}
                out.write(json.dumps(line) + "\n")
                out.flush()
                print(line, flush=True)


def row(args: argparse.Namespace, depth: int, seed: int, target: int, test: Any, known: dict[str, Any]) -> Any:
    """One search and, once for all seeds, the rules at the same limit."""
    cost, limit = ("macs", f"macs<={target}%") if args.part == "channels" else ("nonzeros", f"sparsity>={target}%")
    settings = recipe(args, depth, seed, limit)
    (pruner,) = settings["pruners"].values()
    name = f"resnet{depth}-{args.part}-{pruner}-{target}-s{seed}"
    if (args.runs / name / "front.json").exists():
        run = ss.Run.open(args.runs / name)
    else:
        run = ss.search(settings, name=name, results=args.runs, quiet=True)
    opened = open_run(run.results, TRUSTED)
    task, space = opened.supernet.network.task, run.results.space

    def measured(genome: Genome) -> dict[str, Any]:
        model = opened.supernet.apply(genome)
        opened.norms.correct(model, genome)
        measures = accuracy(model, task, test, 256)
        return {"accuracy": round(measures, 4), cost: space.costs.named(genome.levels)[cost]}

    if not known:
        known |= {"dense": measured(space.dense)}
        known |= {rule: measured(genome) for rule, genome in rules(opened, run, Limit.parse(limit)).items()}
    measures = {"search": measured(min(run.results.front, key=lambda e: e.quality).genome)}
    measures |= {rule: value for rule, value in known.items() if rule != "dense"}
    header = {"run": name, "depth": depth, "seed": seed, "part": args.part, "pruner": pruner, "target": limit}
    return header | {"tokens": run.results.tokens, "dense": known["dense"], "found": measures}


if __name__ == "__main__":
    main()
