"""One run for the whole front against runs for single sizes: what `sparsesearch compare` judged, side by side.

    python front.py --whole COMPARISON --singles COMPARISON...

COMPARISON is a directory that `compare` wrote; of each, the searchers' last checkpoint counts. The whole front's sizes
(`--sizes 80%,60%`) and the limits of the singles must be the same costs, as nonzeros<=80%.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sparsesearch import pareto


def last(comparison: Path) -> dict[str, dict[str, float]]:
    """For each searcher the quality at each size, at the end."""
    sizes = json.loads((comparison / "compare.json").read_text())["sizes"]
    means: dict[str, dict[str, float]] = {}
    for size, searchers in sizes.items():
        for name, series in searchers.items():
            means.setdefault(name, {})[size] = series["mean"][-1]
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", type=Path, required=True)
    parser.add_argument("--singles", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    table = last(args.whole)
    for single in args.singles:
        for name, qualities in last(single).items():
            table.setdefault(f"{name}, a run a size", {}).update(qualities)
    sizes = list(next(iter(table.values())))
    worst = max(max(qualities.values()) for qualities in table.values())
    print(f"| searcher | {' | '.join(sizes)} | hypervolume |\n|---|{'---|' * (len(sizes) + 1)}")
    for name, qualities in table.items():
        points = [[qualities[size], float(size.split("<=")[1].rstrip("%")) / 100] for size in sizes]
        volume = pareto.hypervolume(points, [1.1 * worst, 1.1])
        print(f"| {name} | {' | '.join(f'{qualities[size]:.4f}' for size in sizes)} | {volume:.4f} |")


if __name__ == "__main__":
    main()
