"""Every unstructured pruner under every allocation and a search, and 2:4 with every score, on a language model.

    python results/benchmarks/any_network/pruners.py any|2:4 --model MODEL_DIR --text TEXT_DIR --runs RUNS_DIR

One level store a pruner, from 65,536 tokens of calib.txt (`--sequences`). A search is `evolution`, 16 children a
generation, at one sparsity (1,024 tokens each, 8,192 for the best two and their parent), on windows of train.txt. KL to
dense on the first 16,384 tokens of valid.txt and perplexity on the first 128 windows of wikitext2-test.txt go to
RUNS_DIR/pruners.jsonl, one line a pruner and sparsity.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from common import TextMeasure, commit

import sparsesearch as ss
from sparsesearch.allocation import allocation_named, densities_by_name, genome_at_limits
from sparsesearch.allocation.measured_evidence import measure_evidence
from sparsesearch.runs.results import RunResults

PRUNERS = ("random", "magnitude", "wanda", "gblm", "taylor", "sparsegpt")
ALLOCATIONS = ("uniform", "erk", "lamp", "owl", "block_influence", "alpha_pruning")
SPARSITIES = (50, 60, 70, 80)
LENGTH = 256
OPTIONS = {"offspring": 16, "survivors": [2, 1], "tokens": [1024, 8192]}


def recipe(args: argparse.Namespace, pruner: str, sparsity: int) -> dict[str, Any]:
    data = {"calibration": ("calib.txt", "first"), "selection": ("train.txt", "spread")}
    pattern = None if args.pattern == "any" else args.pattern
    chosen = OPTIONS | {"generations": args.generations}
    options = {"searcher": "evolution", "options": chosen, "seed": args.seed, "final": 1}
    return {
        "model": {"id": str(args.model)},
        "units": [{"kind": "sparsity", "levels": ["50%"] if pattern else 24, "max_sparsity": "95%"}],
        "pruners": {"sparsity": pruner, "pattern": pattern},
        "objectives": ["kl", "nonzeros"],
        "limits": [] if pattern else [f"sparsity>={sparsity}%"],
        "data": {
            role: {"source": str(args.text / name), "sequences": args.sequences, "length": LENGTH, "take": take}
            for role, (name, take) in data.items()
        },
        "search": {"searcher": "random", "evals": 2, "final": 1} if pattern else options,
        "executor": {"kind": args.executor, "workers": 2},
    }


def searched(args: argparse.Namespace, pruner: str, sparsity: int) -> RunResults:
    name = f"{pruner}-{args.pattern.replace(':', 'of')}-{sparsity}-s{args.seed}"
    if (args.runs / name / "front.json").exists():
        return RunResults(args.runs / name)
    return ss.search(recipe(args, pruner, sparsity), name=name, results=args.runs, quiet=True).results


def rows(args: argparse.Namespace, pruner: str) -> Any:
    measure, evidence = None, None
    for sparsity in args.sparsities if args.pattern == "any" else (50,):
        results = searched(args, pruner, sparsity)
        if measure is None:
            # All runs of a pruner have the same units and level store.
            measure = TextMeasure(results, args.text, args.runs, args.windows, LENGTH, 8)
            statistics = next((args.runs / ".cache" / "statistics").glob("*/block-000.safetensors")).parent
            needs = {need for name in ALLOCATIONS for need in allocation_named(name).needs}
            model, network = measure.supernet.apply(measure.space.dense), measure.supernet.network
            evidence = measure_evidence(model, network, measure.space, needs, statistics, Path())
        assert evidence is not None
        row = {"pattern": args.pattern, "pruner": pruner, "sparsity": sparsity}
        if args.pattern != "any":
            yield row | {"found": {"uniform": measure(results.space.smallest)}}
            continue
        measures = {}
        for name in args.allocations:
            genome = genome_at_limits(results.space, densities_by_name(name, evidence))
            measures[name] = None if genome is None else measure(genome)
        best = min(results.front, key=lambda e: e.quality)
        measures["search"] = measure(best.genome)
        yield row | {"found": measures, "tokens": results.tokens}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pattern", help="any, or a pattern such as 2:4")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--pruners", nargs="+", default=list(PRUNERS))
    parser.add_argument("--allocations", nargs="+", default=list(ALLOCATIONS))
    parser.add_argument("--generations", type=int, default=10, help="of the search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sparsities", type=int, nargs="+", default=list(SPARSITIES), help="percent, with `any`")
    parser.add_argument("--sequences", type=int, default=256, help="of 256 tokens, for calibration and for selection")
    parser.add_argument("--windows", type=int, default=64, help="of valid.txt, 256 tokens each")
    parser.add_argument("--executor", choices=["ray", "local"], default="ray")
    args = parser.parse_args()
    args.runs = args.runs.resolve()
    args.runs.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    with (args.runs / "pruners.jsonl").open("a") as out:
        for pruner in args.pruners:
            for row in rows(args, pruner):
                line = row | {"seed": args.seed, "commit": commit()}
                out.write(json.dumps(line) + "\n")
                out.flush()
                print(line, flush=True)


if __name__ == "__main__":
    main()
