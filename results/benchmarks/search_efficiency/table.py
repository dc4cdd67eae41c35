"""What `sparsesearch compare` judged, as a table: quality at checkpoints, a row a searcher.

python table.py compared/u70-*.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def cell(mean: float | None, low: float | None, high: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.4f}" + (f" ({low:.4f}-{high:.4f})" if low != high else "")


def main(paths: list[Path]) -> None:
    for path in paths:
        for size, searchers in json.loads(path.read_text())["sizes"].items():
            for name, series in searchers.items():
                each = zip(series["tokens"], series["mean"], series["low"], series["high"], strict=True)
                cells = [f"{tokens / 1e6:.3g} M {cell(*rest)}" for tokens, *rest in each if rest[0] is not None]
                print(f"| {path.stem} | {size} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
