"""Turns the JSON lines of run.py into the Markdown tables of README.md.

python results/benchmarks/main_job/table.py RUNS_DIR
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def spread(values: list[float], digits: int) -> str:
    """Mean, and half the range where there are several."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {(max(values) - min(values)) / 2:.{digits}f}"


def by_target(rows: Rows) -> dict[str, Rows]:
    groups: dict[str, Rows] = defaultdict(list)
    for row in rows:
        groups[row["target"]].append(row)
    return groups


def best_uniform(row: dict[str, Any]) -> dict[str, Any]:
    """The uniform variant of least KL on valid.txt at the found candidate's costs."""
    return min(row["uniform"].values(), key=lambda u: u["kl_valid"])


METRICS = (("kl_valid", 4), ("ppl_valid", 2), ("ppl_wikitext2-test", 2))


def quality_table(rows: Rows, cost: str) -> None:
    print(
        f"| target | seeds | {cost} found | {cost} uniform | "
        + " | ".join(f"{m} found | uniform" for m, _ in METRICS)
        + " |"
    )
    print("|---" * (4 + 2 * len(METRICS)) + "|")
    for target, group in sorted(by_target(rows).items()):
        cells = [target, str(len(group))]
        cells.append(spread([r["costs"][cost] / 1e6 for r in group], 3) + " M")
        cells.append(spread([best_uniform(r)["costs"][cost] / 1e6 for r in group], 3) + " M")
        for metric, digits in METRICS:
            cells.append(spread([r["found"][metric] for r in group], digits))
            cells.append(spread([best_uniform(r)[metric] for r in group], digits))
        print("| " + " | ".join(cells) + " |")
    valid, wiki = (rows[0]["dense"][f"ppl_{name}"] for name in ("valid", "wikitext2-test"))
    print(f"\nDense: perplexity {valid:.2f} on valid.txt, {wiki:.2f} on wikitext2-test.txt.\n")


def effort_table(rows: Rows) -> None:
    heads = ("run", "evaluations", "selection tokens", "seconds: statistics, levels, search", "level store")
    print("| " + " | ".join((*heads, "of dense copies", "archive SHA-256")) + " |")
    print("|---" * 7 + "|")
    for row in {r["run"]: r for r in rows}.values():
        seconds, copies = row["seconds"], row["dense_copies_bytes"]
        cells = [
            row["run"],
            str(row["evaluations"]),
            f"{row['tokens']:,}",
            ", ".join(f"{seconds.get(p, 0):.0f}" for p in ("calibration statistics", "levels", "evaluation")),
            f"{row['store_bytes'] / 1e6:.0f} MB",
            f"{row['store_bytes'] / copies:.2f}" if copies else "",
            row["archive_sha256"][:12],
        ]
        print("| " + " | ".join(cells) + " |")
    print()


def main() -> None:
    runs = Path(sys.argv[1])
    for part, cost in (("sparsity", "nonzeros"), ("widths", "params"), ("mixed", "nonzeros")):
        rows = read(runs / f"{part}.jsonl")
        if rows:
            print(f"### {part}\n")
            quality_table(rows, cost)
            effort_table(rows)


if __name__ == "__main__":
    main()
