"""Quality of each arm at each size: as found, after equal recovery, and at equal compute.

python picture.py --fronts measured/llama-fronts.json --out measured/llama-fronts.png
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

# Okabe-Ito, and a symbol for each, so that colour-blind readers tell them apart.
STYLES = [("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v")]
PANELS = {"": "as found", ", recovered": "each recovered on equal tokens", ", equal compute": "equal compute"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fronts", type=Path, nargs="+", required=True)
    parser.add_argument("--quality", default="kl")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = [row for path in args.fronts for row in json.loads(path.read_text())]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), PANELS.items(), strict=True):
        for arm, (colour, marker) in zip(dict.fromkeys(row["arm"] for row in rows), STYLES, strict=False):
            seeds = defaultdict(list)
            for row in rows:
                if row["arm"] == arm and row[args.quality + key] is not None:
                    seeds[row["size"]].append(row[args.quality + key])
            sizes = sorted(seeds)
            axes.plot(sizes, [fmean(seeds[s]) for s in sizes], color=colour, marker=marker, label=arm)
        axes.set(title=title, xlabel="% of the dense cost")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(args.quality)
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[-1].legend()
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
