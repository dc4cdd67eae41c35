"""What runs found at each of several sizes: the best candidate that is no larger; and the hypervolume of their fronts.

The reference point is the worst of all fronts, so that hypervolumes of one call can be compared.

python sizes.py --runs RUNS/gates-s0 RUNS/auto-s0 --sizes 75,60,50,40 --out measured/llama-sizes.json
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

from sparsesearch import pareto
from sparsesearch.runs.results import RunResults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--sizes", default="75,60,50,40", help="percentages of the dense network's first cost")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows, runs = [], [RunResults(path) for path in args.runs]
    points = {results.run.path.name: [results.point(e) for e in results.front] for results in runs}
    reference = [max(values) for values in zip(*itertools.chain.from_iterable(points.values()), strict=True)]
    for results in runs:
        quality, cost = results.info["objectives"][:2]
        dense = results.space.dense_costs[cost]
        row: dict[str, object] = {"run": results.run.path.name}
        for size in map(int, args.sizes.split(",")):
            fitting = [e.quality for e in results.front if e.costs[cost] <= dense * size / 100]
            row[f"{quality} at {size}%"] = round(min(fitting), 4) if fitting else None
        row["hypervolume"] = round(pareto.hypervolume(points[results.run.path.name], reference), 4)
        rows.append(row)
        print(json.dumps(row), flush=True)
    args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
