"""One worker against two: seconds of the same search, one after the other, several times.

    python workers.py --recipe unstructured.yaml --model MODEL --calibration TEXT --selection TEXT --results DIR

Seconds of evaluation, final measurements among them; without the first generation, in which workers start; and with the
searcher's own thinking between generations, from each run's ledger. The level store is built before anything is timed.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import sparsesearch as ss
from sparsesearch.runs.results import RunResults

# Tokens of a first run that is not counted.
WARM_UP = 20_000


def seconds(run: RunResults) -> tuple[float, float, float]:
    """Of evaluations, of those after the first generation, and of all with the searcher."""
    lines = run.run.lines(run.run.ledger)
    spent = {phase: [e["seconds"] for e in lines if e["phase"] == phase] for phase in ("evaluation", "searcher")}
    evaluation = spent["evaluation"]
    return sum(evaluation), sum(evaluation[1:]), sum(evaluation + spent["searcher"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--selection", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--searchers", default="auto,nsga2")
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    options = {"calibration": args.calibration, "selection": args.selection, "results": args.results, "quiet": True}
    heads = ["evaluation, 1 worker / 2 workers", "after the first generation", "with the searcher's thinking"]
    print(f"| searcher | {' | '.join(heads)} |\n|---|---|---|---|")
    for searcher in args.searchers.split(","):
        times: dict[int, list[tuple[float, float, float]]] = {1: [], 2: []}
        for repeat in range(-1, args.repeats):
            tokens = args.tokens if repeat >= 0 else WARM_UP
            for workers in times:
                changes = {
                    "model.id": args.model,
                    "executor.workers": workers,
                    "search.searcher": searcher,
                    "search.tokens": tokens,
                    "search.final": 1,
                    "data.selection.sequences": 64,
                    "model.compute_dtype": "fast",
                }
                run = ss.search(args.recipe, name=f"{searcher}-{workers}-{repeat}", changes=changes, **options)
                if repeat >= 0:
                    times[workers].append(seconds(run.results))
        ratios = [[one[i] / two[i] for one, two in zip(times[1], times[2], strict=True)] for i in range(3)]
        cells = [f"{statistics.median(r):.2f} ({min(r):.2f}-{max(r):.2f})" for r in ratios]
        print(f"| {searcher} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
