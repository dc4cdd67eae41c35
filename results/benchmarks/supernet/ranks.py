"""How ranks of candidates on a supernet agree with their ranks after training each alone.

    python ranks.py --runs RUNS/stitched-s0 RUNS/sandwich-s0 --alone RUNS/stitched-s0 --size 50 --candidates 14 \\
        --tokens 60000 --out measured/llama-ranks.json

Candidates fill one size, from almost uniform to scattered. All are measured on each run's supernet, and trained one by
one from the weights that the run `--alone` has for them. Kendall's tau and Spearman's rho with 90 % intervals
(bootstrap).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr

from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import open_run
from sparsesearch.engine.workers.worker import Measured, Worker
from sparsesearch.engine.workflows import recover as recovering
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome, Limit
from sparsesearch.space.sampling import equal_cost_genomes

DRAWS = 2000


def on_supernet(results: RunResults, genomes: list[Genome]) -> list[float]:
    """Mean loss of each on all selection data."""
    worker = Worker(open_run(results, TRUSTED).setup)
    rows, means = list(range(int(results.info["selection_sequences"]))), []
    for genome in genomes:
        result = worker.evaluate(genome.data, rows, 0)
        assert isinstance(result, Measured), result
        means.append(float(np.mean(result.losses)))
    return means


def agreement(before: list[float], after: list[float]) -> dict[str, Any]:
    rng, summary = np.random.default_rng(0), {}
    pairs = np.array([before, after])
    for name, measure in (("tau", kendalltau), ("rho", spearmanr)):
        draws = [measure(*pairs[:, rng.integers(0, len(before), len(before))]).statistic for _ in range(DRAWS)]
        low, high = np.nanquantile(draws, [0.05, 0.95])
        value = measure(before, after).statistic
        summary |= {name: round(float(value), 2), f"{name} 90 %": [round(float(low), 2), round(float(high), 2)]}
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--alone", type=Path, required=True)
    parser.add_argument("--size", type=float, default=50, help="percentage of the dense network's cost")
    parser.add_argument("--candidates", type=int, default=14)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--set", dest="recovery", type=json.loads, default={}, help="training options as JSON")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    alone = RunResults(args.alone)
    cost = alone.info["objectives"][1]
    space = alone.space.with_limits([Limit.parse(f"{cost}<={args.size}%")])
    genomes = equal_cost_genomes(space, args.candidates, np.random.default_rng(0))
    candidates = [Evaluation(g, 0, 0, "rank", "ok", 0.0, space.costs.named(g.levels)) for g in genomes]
    prepared = recovering.prepare_recovery(alone, args.recovery, args.tokens, access=TRUSTED)
    done = recovering.recover(prepared, candidates, Reporter(quiet=True))
    after = [one.quality for one in done]
    rows: list[dict[str, Any]] = []
    for path in args.runs:
        before = on_supernet(RunResults(path), genomes)
        rows.append({"supernet": path.name, **agreement(before, after), "before": before, "after": after})
        print(json.dumps({k: v for k, v in rows[-1].items() if k not in ("before", "after")}), flush=True)
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
