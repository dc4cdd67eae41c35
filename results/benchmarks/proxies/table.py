"""Audits side by side: Kendall's tau of every proxy with the quality at once and after training.

    python table.py unstructured.json widths.json channels.json

Each file is an audit.json that `sparsesearch audit` wrote; proxies are sorted by their least tau over all columns.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def cell(figures: dict[str, Any], name: str) -> str:
    """Return tau and its interval, if any, as .52 (.37 to .66); a dash if the proxy cannot score that network."""
    if figures.get(name) is None:
        return "-"
    tau, *limits = (
        "-" if x is None else f"{x:.2f}".replace("0.", ".", 1) for x in (figures[name], *figures[f"{name}_range"])
    )
    return tau if "-" in limits else f"{tau} ({limits[0]} to {limits[1]})"


def main(paths: list[Path]) -> None:
    audits = {path.stem: json.loads(path.read_text()) for path in paths}
    heads = [f"{stem}, {when}" for stem in audits for when in ("at once", "trained")]
    print(f"| | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    before = [("", cell(audit["training"], "tau_before")) for audit in audits.values()]
    print(f"| the quality before training | {' | '.join(text for pair in before for text in pair)} |")
    names = {name for audit in audits.values() for name in audit["proxies"]}

    def least(name: str) -> float:
        entries = [audit["proxies"].get(name, {}) for audit in audits.values()]
        figures = [entry.get(key) for entry in entries for key in ("tau", "tau_after")]
        return -min((tau for tau in figures if tau is not None), default=-2)

    for name in sorted(names, key=least):
        entries = [audit["proxies"].get(name, {}) for audit in audits.values()]
        cells = [cell(entry, key) for entry in entries for key in ("tau", "tau_after")]
        control = any(entry.get("control") for entry in entries)
        print(f"| {name}{' (control)' if control else ''} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
