"""Every unstructured pruner under every allocation, and 2:4 with every score, on a language model.

    python results/benchmarks/any_network/pruners.py --model MODEL_DIR --text TEXT_DIR --runs RUNS_DIR

KL to dense on the first 16,384 tokens of valid.txt and perplexity on the first 128 windows of wikitext2-test.txt, from
one level store a pruner. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sparsesearch as ss
from sparsesearch.allocation import AllocationConfig, allocation, at_limits
from sparsesearch.calibration import Samples
from sparsesearch.engine.evidence import measure_evidence
from sparsesearch.evaluation import Evaluator, Teacher, perplexity
from sparsesearch.export.measure import text_windows
from sparsesearch.export.write import open_run
from sparsesearch.models import load_tokenizer
from sparsesearch.space import Limit

PRUNERS = ("random", "magnitude", "wanda", "gblm", "taylor", "sparsegpt")
ALLOCATIONS = ("uniform", "erk", "lamp", "owl", "block_influence", "alpha_pruning")
SPARSITIES = (50, 60, 70, 80)
LENGTH, WINDOWS = 256, 64


def store(args: argparse.Namespace, pruner: str, pattern: str | None) -> Any:
    """A finished tiny run, which leaves the level store behind."""
    levels = ["50%"] if pattern else 24
    calib = str(args.text / "calib.txt")
    recipe = {
        "model": {"id": str(args.model)},
        "units": [{"kind": "sparsity", "levels": levels, "max_sparsity": "95%"}],
        "pruners": {"sparsity": pruner, "pattern": pattern, "compensate": args.compensate},
        "objectives": ["kl", "nonzeros"],
        "data": {
            "calibration": {"source": calib, "sequences": 256, "length": LENGTH, "take": "first"},
            "selection": {"source": str(args.text / "valid.txt"), "sequences": 4, "length": LENGTH, "take": "first"},
        },
        "search": {"searcher": "random", "evals": 1, "final": 1},
        "executor": {"kind": "ray", "workers": 2},
    }
    name = f"{pruner}-{(pattern or 'any').replace(':', 'of')}"
    if (args.runs / name / "front.json").exists():
        return ss.Run.open(args.runs / name)
    return ss.search(recipe, name=name, results=args.runs, quiet=True)


class Measure:
    """KL and perplexity of genomes of one run."""

    def __init__(self, run: Any, args: argparse.Namespace) -> None:
        self.opened, self.space = open_run(run.results), run.results.space
        self.supernet = self.opened.supernet
        tokenizer, network = load_tokenizer(args.model), self.supernet.network
        valid = text_windows(tokenizer, args.text / "valid.txt", LENGTH)[:WINDOWS]
        teacher = Teacher.create(args.runs / "teacher", Samples({"input_ids": valid}), network.output_shape(LENGTH))
        teacher.fill(self.supernet.apply(self.space.dense), network.task, 0, WINDOWS, 8)
        self.evaluator = Evaluator(self.supernet, teacher, network.task, 8)
        self.test = text_windows(tokenizer, args.text / "wikitext2-test.txt", LENGTH)[:128]

    def __call__(self, genome: Any) -> str:
        kl = self.evaluator.losses(genome, np.arange(WINDOWS)).mean()
        return f"{kl:.4f} / {perplexity(self.supernet.model, self.test, 8):.1f}"


def densities(name: str, evidence: Any) -> Callable[[float], dict[str, float]]:
    """Densities by matrix that an allocation gives at a sparsity."""
    rule = allocation(name).densities
    return lambda sparsity: dict(zip(evidence.names, rule(evidence, sparsity, AllocationConfig()), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--pruners", nargs="+", default=list(PRUNERS))
    parser.add_argument("--compensate", action="store_true")
    args = parser.parse_args()
    args.runs = args.runs.resolve()
    torch.set_num_threads(2)
    print(
        "| pruner | sparsity | " + " | ".join(ALLOCATIONS) + " |\n" + "|---" * (2 + len(ALLOCATIONS)) + "|", flush=True
    )
    for pruner in args.pruners:
        run = store(args, pruner, None)
        measure = Measure(run, args)
        statistics = next((args.runs / ".cache" / "statistics").glob("*/block-000.safetensors")).parent
        needs = {need for name in ALLOCATIONS for need in allocation(name).needs}
        model = measure.supernet.apply(measure.space.dense)
        evidence = measure_evidence(model, measure.supernet.network, measure.space, needs, statistics, Path())
        for sparsity in SPARSITIES:
            space, cells = measure.space.with_limits([Limit.parse(f"sparsity>={sparsity}%")]), []
            for name in ALLOCATIONS:
                genome = at_limits(space, densities(name, evidence))
                cells.append("" if genome is None else measure(genome))
            print(f"| {pruner} | {sparsity} % | " + " | ".join(cells) + " |", flush=True)
    print("\n| pruner | 2:4 |\n|---|---|", flush=True)
    for pruner in args.pruners:
        run = store(args, pruner, "2:4")
        print(f"| {pruner} | {Measure(run, args)(run.results.space.smallest)} |", flush=True)


if __name__ == "__main__":
    main()
