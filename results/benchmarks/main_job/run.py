"""Benchmarks of the main job on a real language model; writes one JSON line a result.

    python results/benchmarks/main_job/run.py PART --model MODEL_DIR --text TEXT_DIR --runs RUNS_DIR --seeds 0 1 2

PART is `sparsity` (unstructured, evopress), `widths` (FFN and KV groups, nsga2) or `mixed` (all unit kinds, nsga2).
TEXT_DIR holds calib.txt, valid.txt and wikitext2-test.txt. Lines go to RUNS_DIR/PART.jsonl; `table.py` makes tables.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sparsesearch as ss
from sparsesearch.data import Samples
from sparsesearch.engine.reopen import open_run
from sparsesearch.evaluation import Evaluator, Teacher, perplexity
from sparsesearch.export.measuring.quality import text_windows
from sparsesearch.models import load_tokenizer
from sparsesearch.runs.results import RunResults
from sparsesearch.space import Genome, Limit
from sparsesearch.space.sampling import uniform_at_limits, uniform_variants

LENGTH = 256


def recipe_sparsity(args: argparse.Namespace, seed: int, sparsity: int, generations: int) -> dict[str, Any]:
    """EvoPress's setting in anchors: 17 levels around the target, KL on draws from calibration text."""
    calib = str(args.text / "calib.txt")
    return {
        "model": {"id": str(args.model)},
        "units": [{"kind": "sparsity", "levels": {"around": f"{sparsity}%", "radius": 8}}],
        "limits": [f"sparsity>={sparsity}%"],
        "objectives": ["kl", "nonzeros"],
        "data": {
            "calibration": {"source": calib, "sequences": args.calibration or 512, "length": LENGTH, "take": "first"},
            "selection": {"source": calib, "sequences": args.selection or 256, "length": LENGTH, "take": "first"},
            "allow_shared": True,
        },
        "search": {
            "searcher": "evopress",
            "seed": seed,
            "final": 2,
            "options": {"offspring": 16, "survivors": [2, 1], "tokens": [1024, 8192], "generations": generations},
        },
        "executor": {"kind": args.executor, "workers": 2},
    }


def recipe_nsga2(
    args: argparse.Namespace, seed: int, units: list[dict[str, Any]], cost: str, limits: list[str]
) -> dict[str, Any]:
    """Calibration on the first 70 % of calib.txt, selection on the rest."""
    first, rest = args.runs / "calib-first.txt", args.runs / "calib-rest.txt"
    if not rest.exists():
        text = (args.text / "calib.txt").read_text()
        cut = text.index("\n", int(0.7 * len(text)))
        first.write_text(text[:cut])
        rest.write_text(text[cut:])
    return {
        "model": {"id": str(args.model)},
        "units": units,
        "limits": limits,
        "objectives": ["kl", cost],
        "data": {
            "calibration": {"source": str(first), "sequences": args.calibration or 384, "length": LENGTH},
            "selection": {"source": str(rest), "sequences": args.selection or 160, "length": LENGTH},
        },
        "search": {
            "searcher": "nsga2",
            "seed": seed,
            "evals": args.evals,
            "options": {"tokens": 2048, "population": 48},
        },
        "executor": {"kind": args.executor, "workers": 2},
    }


WIDTHS = [
    {"kind": "ffn_width", "levels": 12, "min_kept": "25%", "align": 8},
    {"kind": "kv_groups"},
]
MIXED = [
    {"kind": "sparsity", "levels": 9, "max_sparsity": "90%"},
    {"kind": "ffn_width", "levels": 6, "min_kept": "25%", "align": 8},
    {"kind": "kv_groups"},
    {"kind": "drop_attention", "protect": [0, -1]},
    {"kind": "drop_ffn", "protect": [0, -1]},
]


def run_or_open(recipe: dict[str, Any], name: str, runs: Path) -> RunResults:
    if (runs / name / "front.json").exists():
        return RunResults(runs / name)
    if (runs / name / "run.yaml").exists():
        return ss.Run.open(runs / name).resume().results
    return ss.search(recipe, name=name, results=runs, quiet=True).results


class Measure:
    """Measures KL on the first windows of a text (16,384 tokens), and perplexity on those of the report texts."""

    def __init__(self, results: RunResults, args: argparse.Namespace) -> None:
        opened = open_run(results)
        self.supernet = opened.supernet
        tokenizer = load_tokenizer(opened.launch.source.directory)
        self.texts = {
            n: text_windows(tokenizer, args.text / f"{n}.txt", LENGTH)[: args.windows]
            for n in ("valid", "wikitext2-test")
        }
        self.kl = {}
        for name in ("calib", "valid") if args.part == "sparsity" else ("valid",):
            tokens = text_windows(tokenizer, args.text / f"{name}.txt", LENGTH)[: args.kl_windows]
            network = self.supernet.network
            samples = Samples({"input_ids": tokens})
            teacher = Teacher.create(args.runs / f"teacher-{name}", samples, network.output_shape(LENGTH))
            teacher.fill(self.supernet.apply(results.space.dense), network.task, 0, len(tokens), 8)
            self.kl[name] = Evaluator(self.supernet, teacher, network.task, 8)

    def __call__(self, genome: Genome) -> dict[str, float]:
        losses = {
            f"kl_{n}": float(e.losses(genome, np.arange(len(e.targets.samples))).mean()) for n, e in self.kl.items()
        }
        model = self.supernet.apply(genome)
        return losses | {f"ppl_{n}": perplexity(model, tokens, 8) for n, tokens in self.texts.items()}


def uniform_like(results: RunResults, costs: dict[str, int], names: list[str]) -> dict[str, Genome]:
    """Every uniform variant grown as far as these costs allow."""
    space = results.space.with_limits([Limit.parse(f"{n}<={costs[n]}") for n in names])
    genomes = {v: uniform_at_limits(space, kinds) for v, kinds in uniform_variants(space).items()}
    return {v: g for v, g in genomes.items() if g is not None}


def base_row(args: argparse.Namespace, results: RunResults, seed: int, measure: Measure) -> dict[str, Any]:
    phases: dict[str, float] = {}
    for entry in results.run.lines(results.run.ledger):
        phases[entry["phase"]] = round(phases.get(entry["phase"], 0.0) + entry["seconds"], 1)
    built = measure.supernet.composer.files.directory / "units"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return {
        "part": args.part,
        "windows": args.windows,
        "seed": seed,
        "run": results.run.path.name,
        "tokens": results.tokens,
        "evaluations": len(results.evaluations),
        "seconds": phases,
        "versions": results.info["versions"],
        "commit": commit.stdout.strip(),
        "store_bytes": sum(p.stat().st_size for p in built.glob("*.safetensors")),
        "dense_copies_bytes": sum(
            u.total * (len(u.levels) - 1) * results.space.bytes_per_weight
            for u in results.space.units
            if u.kind == "sparsity"
        ),
        "archive_sha256": results.archive.digest(),
    }


def compare(
    row: dict[str, Any], results: RunResults, measure: Measure, target: str, chosen: Any, names: list[str]
) -> dict[str, Any]:
    uniform = uniform_like(results, chosen.costs, names)
    rows = {v: measure(g) | {"costs": results.space.costs.named(g.levels)} for v, g in uniform.items()}
    entry = {"id": chosen.genome.id, "costs": chosen.costs, "found": measure(chosen.genome)}
    return row | entry | {"target": target, "uniform": rows}


def best_under(results: RunResults, limit: str) -> Any:
    space = results.space.with_limits([Limit.parse(limit)])
    inside = [e for e in results.front if space.feasible(e.genome)]
    return min(inside, key=lambda e: e.quality) if inside else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["sparsity", "widths", "mixed"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sparsities", type=int, nargs="+", default=[50, 60, 70, 80])
    parser.add_argument("--generations", type=int, default=150)
    parser.add_argument("--targets", type=int, nargs="+", default=[90, 80, 70, 60, 50, 40, 30], help="percent kept")
    parser.add_argument("--evals", type=int, default=400)
    parser.add_argument("--windows", type=int, default=256, help="of 256 tokens, from the start of each report text")
    parser.add_argument("--kl-windows", type=int, default=64, help="of 256 tokens, for KL")
    parser.add_argument("--calibration", type=int, help="windows; 512 for sparsity and 384 else, if not given")
    parser.add_argument("--selection", type=int, help="windows; 256 for sparsity and 160 else, if not given")
    parser.add_argument("--executor", choices=["ray", "local"], default="ray")
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    args.runs = args.runs.resolve()
    torch.set_num_threads(2)
    with (args.runs / f"{args.part}.jsonl").open("a") as out:
        for seed in args.seeds:
            for row in rows(args, seed):
                out.write(json.dumps(row) + "\n")
                out.flush()
                print(row["run"], row["target"], row["found"], flush=True)


def rows(args: argparse.Namespace, seed: int) -> Any:
    if args.part == "sparsity":
        for sparsity in args.sparsities:
            recipe = recipe_sparsity(args, seed, sparsity, args.generations)
            results = run_or_open(recipe, f"sparsity-{sparsity}-g{args.generations}-s{seed}", args.runs)
            measure = Measure(results, args)
            row = base_row(args, results, seed, measure) | {"dense": measure(results.space.dense)}
            yield compare(
                row,
                results,
                measure,
                f"sparsity {sparsity}%, {args.generations} generations",
                results.pick("min:kl"),
                ["nonzeros"],
            )
        return
    units, cost, limits = (WIDTHS, "params", []) if args.part == "widths" else (MIXED, "nonzeros", ["params<=80%"])
    results = run_or_open(recipe_nsga2(args, seed, units, cost, limits), f"{args.part}-s{seed}", args.runs)
    measure = Measure(results, args)
    row = base_row(args, results, seed, measure) | {"dense": measure(results.space.dense)}
    fixed = results.space.dense_costs[cost] - results.space.prunable
    for percent in args.targets:
        bound = fixed + results.space.prunable * percent // 100
        chosen = best_under(results, f"{cost}<={bound}")
        if chosen is not None:
            names = [cost] if args.part == "widths" else [cost, "params"]
            yield compare(row, results, measure, f"{percent}% of prunable", chosen, names)


if __name__ == "__main__":
    main()
