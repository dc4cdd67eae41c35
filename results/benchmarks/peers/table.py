"""Tables of what the scripts of this folder measured: python table.py measured/*.json

Of images: accuracy on 10,000 test images, or in brackets on the first 1,000 where a configuration was not the best of
its limit. Of texts: KL to dense / perplexity.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LIMITS = ("macs<=", "prunable<=")
KNOBS = ("importance", "way", "score", "pruner", "units", "neurons", "space", "search")


def cell(row: dict[str, Any]) -> str:
    if "kl" in row:
        return f"{row['kl']:.4f} / {row['perplexity']:.1f}"
    if "all 10000" in row:
        return ", ".join(f"{value:.1%} {name}" for name, value in row["all 10000"].items())
    swept = row.get("first 1000")
    return ", ".join(f"({value:.1%} {name})" for name, value in swept.items()) if swept else "none found"


def kept(row: dict[str, Any], whole: int | None) -> str:
    """Share of what the limit counts."""
    if "macs" in row:
        return f"{row['macs']:.1%}"
    return f"{row['params'] / whole:.1%}" if whole and "params" in row else ""


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        report = json.loads(path.read_text())
        dense = report.get("dense", {})
        print(f"{path.stem}, dense {dense}\n\n| limit | configuration | keeps | measured |\n|---|---|---|---|")
        for row in report["rows"]:
            limit = next(f"{name}{row[name]}%" for name in LIMITS if name in row)
            knobs = ", ".join(str(row[name]) for name in KNOBS if name in row)
            print(f"| {limit} | {knobs} | {kept(row, dense.get('params'))} | {cell(row)} |")
        print()


if __name__ == "__main__":
    main()
