"""Tables of what `curves.py`, `baselines.py` and `arms.py` wrote, and pictures of curves.

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
METRICS = ("kl", "perplexity", "accuracy")


def shown(row: Row) -> str:
    """Its metrics, as .105 / 41.8."""
    return " / ".join(f"{round(row[name], 5):.4g}".removeprefix("0") or "0" for name in METRICS if name in row)


def curves(rows: list[Row], picture: Path) -> None:
    """A line for each method, a column for each number of tokens."""
    columns = sorted({row["tokens"] for row in rows})
    methods = {row["method"]: {r["tokens"]: r for r in rows if r["method"] == row["method"]} for row in rows}
    print(f"| {' / '.join(name for name in METRICS if name in rows[0])} | {' | '.join(f'{c:,}' for c in columns)} |")
    print(f"|---|{'---|' * len(columns)}")
    for method, points in methods.items():
        print(f"| {method} | {' | '.join(shown(points[c]) if c in points else '' for c in columns)} |")
    pyplot.figure(figsize=(6, 4))
    for method, points in methods.items():
        style = "--" if method.startswith("dense") else "-"
        pyplot.plot(
            range(len(columns)),
            [points[c]["kl"] if c in points else None for c in columns],
            style,
            marker="o",
            label=method,
        )
    pyplot.xticks(range(len(columns)), [f"{c:,}" for c in columns])
    pyplot.xlabel("training tokens")
    pyplot.ylabel("KL to the dense network")
    pyplot.title(picture.stem)
    pyplot.legend()
    pyplot.tight_layout()
    pyplot.savefig(picture, dpi=110)


def flat(rows: list[Row]) -> None:
    """A line for each row."""
    keys = [key for key in rows[0] if key not in METRICS and key != "genome"]
    print(f"| {' | '.join(keys)} | {' / '.join(name for name in METRICS if name in rows[0])} |")
    print(f"|{'---|' * (len(keys) + 1)}")
    for row in rows:
        print(
            f"| {' | '.join(f'{row[k]:,}' if isinstance(row[k], int) else str(row[k]) for k in keys)} | {shown(row)} |"
        )


def main(paths: list[Path]) -> None:
    for path in paths:
        rows = json.loads(path.read_text())
        print(f"\n{path.stem}\n")
        if len({row.get("tokens") for row in rows}) > 1:
            curves(rows, path.with_suffix(".png"))
        else:
            flat(rows)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
