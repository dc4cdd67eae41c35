"""Tables of what cnn.py, moe.py and pruners.py wrote.

    python results/benchmarks/any_network/table.py RUNS_DIR/cnn.jsonl RUNS_DIR/moe.jsonl RUNS_DIR/pruners.jsonl

Mean and range over seeds where there are several; of repeated rows the last counts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def latest(path: Path, *keys: str) -> list[Row]:
    """Rows of a file, the last one for each combination of keys."""
    return list({tuple(row[k] for k in keys): row for row in map(json.loads, path.read_text().splitlines())}.values())


def spread(values: Iterable[float], show: Callable[[float], str]) -> str:
    """A number, or `mean (lowest-highest)`."""
    figures = list(values)
    if len(figures) == 1 or min(figures) == max(figures):
        return show(figures[0])
    return f"{show(sum(figures) / len(figures))} ({show(min(figures))}-{show(max(figures))})"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    head = list(head)
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def grouped(rows: list[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in keys), []).append(row)
    return groups


def cnn(path: Path) -> None:
    """Accuracy of each rule, and the cost of what the search found."""
    for (part, pruner), rows in grouped(latest(path, "run", "target"), "part", "pruner").items():
        cost, names = ("macs" if part == "channels" else "nonzeros"), list(rows[0]["found"])
        print(f"{part}, {pruner}, {len({r['seed'] for r in rows})} seeds\n")
        lines = []
        for (depth, target), same in grouped(rows, "depth", "target").items():
            cells = [
                spread((r["found"][n]["accuracy"] for r in same if n in r["found"]), "{:.1%}".format) for n in names
            ]
            kept = (r["found"]["search"][cost] / r["dense"][cost] for r in same if "search" in r["found"])
            lines.append([f"resnet{depth}", target, *cells, spread(kept, "{:.1%}".format)])
        table(["", "at most", *names, f"search keeps of {cost}"], lines)


def moe(path: Path) -> None:
    """KL and perplexity of the search and of uniform removal."""
    lines = []
    for (kept,), same in grouped(latest(path, "run", "kept"), "kept").items():
        cells = [
            spread((row[rule][metric] for row in same if rule in row), show)
            for metric, show in (("kl", "{:.4f}".format), ("perplexity", "{:.1f}".format))
            for rule in ("search", "uniform")
            if any(rule in row for row in same)
        ]
        lines.append([str(kept), *(cells if len(cells) == 4 else ["", cells[0], "", cells[1]])])
    table(["experts a layer", "KL, search", "KL, uniform", "perplexity, search", "perplexity, uniform"], lines)


def cell(figures: Row | None) -> str:
    return f"{figures['kl']:.4f} / {figures['perplexity']:.1f}" if figures else ""


def pruners(path: Path) -> None:
    """KL / perplexity by pruner, sparsity and allocation."""
    for (pattern,), rows in grouped(latest(path, "pattern", "pruner", "sparsity"), "pattern").items():
        names = list(dict.fromkeys(name for row in rows for name in row["found"]))
        print(f"pattern: {pattern}\n")
        lines = [
            [
                r["pruner"],
                f"{r['sparsity']} %",
                *(cell(r["found"].get(name)) for name in names),
            ]
            for r in rows
        ]
        table(["pruner", "sparsity", *names], lines)


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        {"cnn": cnn, "moe": moe, "pruners": pruners}[path.stem](path)


if __name__ == "__main__":
    main()
