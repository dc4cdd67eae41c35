"""Tables and pictures of what `../recovery/arms.py` wrote: means over seeds, with the lowest and highest.

python table.py measured/*.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot

Row = dict[str, Any]


def shown(values: list[float], digits: int = 3) -> str:
    """Their mean and, where there are several, their range, as .283 (.271-.300)."""
    mean, low, high = (f"{x:.{digits}f}".lstrip("0") for x in (sum(values) / len(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({low}-{high})"


def main(paths: list[Path]) -> None:
    for path in paths:
        rows: list[Row] = json.loads(path.read_text())
        arms = list(dict.fromkeys(row["arm"] for row in rows))
        metric = "perplexity" if "perplexity" in rows[0] else "accuracy"
        seeds = len({row["seed"] for row in rows})
        print(f"\n{path.stem}: {seeds} seed{'s' * (seeds > 1)}, compute {rows[0]['compute']:,}\n")
        print(f"| arm | KL as found | weights | KL after recovery | {metric} |\n|---|---|---|---|---|")
        for arm in arms:
            found = [row for row in rows if row["arm"] == arm]
            weights = ", ".join(sorted({row["weights"] for row in found}))
            before, after = shown([row["before"] for row in found]), shown([row["kl"] for row in found])
            value = shown([row[metric] for row in found], 2 if metric == "perplexity" else 3)
            print(f"| {arm} | {before} | {weights} | {after} | {value} |")
        draw(rows, arms, path.with_suffix(".png"))


def draw(rows: list[Row], arms: list[str], picture: Path) -> None:
    """A dot for each seed: hollow as found, filled after recovery."""
    _, axes = pyplot.subplots(figsize=(6, 0.35 * len(arms) + 1.2))
    for row in rows:
        place = len(arms) - 1 - arms.index(row["arm"])
        axes.plot([row["before"], row["kl"]], [place, place], color="0.8", zorder=1)
        axes.scatter(row["before"], place, facecolors="white", edgecolors="tab:blue", zorder=2)
        axes.scatter(row["kl"], place, color="tab:blue", zorder=3)
    axes.set_yticks(range(len(arms)), list(reversed(arms)))
    axes.set_xlabel("KL to the dense network: hollow as found, filled after recovery")
    axes.set_title(picture.stem)
    pyplot.tight_layout()
    pyplot.savefig(picture, dpi=110)
    pyplot.close()


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
