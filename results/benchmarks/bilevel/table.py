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


def arms_table(rows: list[Row]) -> list[str]:
    """A line for each arm: as found, with the store's weights and its own (the lower went on); after recovery."""
    metric = "perplexity" if "perplexity" in rows[0] else "accuracy"
    recovered = any(row["before"] != round(row["kl"], 4) for row in rows)
    heads = ["arm", "KL, store", *(["KL, own", "KL after recovery"] if recovered else []), metric]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for arm in arms_of(rows):
        members = [row for row in rows if row["arm"] == arm]
        before = [row["before, learned"] for row in members if "before, learned" in row]
        cells = [arm, shown([row.get("before, refitted", row["before"]) for row in members])]
        if recovered:
            cells += [shown(before) if before else "", shown([row["kl"] for row in members])]
        cells.append(shown([row[metric] for row in members], 2 if metric == "perplexity" else 3))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def methods_table(rows: list[Row]) -> list[str]:
    """A line for each way to prune by magnitude: accuracy over seeds."""
    accuracies: dict[str, list[float]] = {}
    for row in rows:
        accuracies.setdefault(row["method"], []).append(row["accuracy"])
    heads = ["| by magnitude while training | accuracy |", "|---|---|"]
    return heads + [f"| {method} | {shown(values)} |" for method, values in accuracies.items()]


def flat_table(rows: list[Row]) -> list[str]:
    """A line for each row, as it is."""
    cells = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in cells]


def arms_of(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["arm"] for row in rows))


def main(paths: list[Path]) -> None:
    for path in paths:
        rows: list[Row] = json.loads(path.read_text())
        print(f"\n{path.stem}\n")
        made = arms_table if "arm" in rows[0] else methods_table if "method" in rows[0] else flat_table
        print(*made(rows), sep="\n")
        if "arm" in rows[0]:
            draw(rows, path.with_suffix(".png"))


def draw(rows: list[Row], picture: Path) -> None:
    """A dot for each seed: hollow as found, filled after recovery."""
    arms = arms_of(rows)
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
