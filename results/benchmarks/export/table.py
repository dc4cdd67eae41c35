"""The table of `README.md` from what `forms.py` wrote: python table.py [FILE ...], `measured/*.json` by default."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sparsesearch.export import FORMS


def cell(row: dict[str, Any]) -> str:
    if "refused" in row:
        return ""
    file, time = row["of dense's file"], row["of dense's time"]
    return f"{100 * file:.0f} / {100 * time:.0f}"


def main(paths: list[Path]) -> None:
    print(f"| candidate | dense, ms | MACs | {' | '.join(FORMS)} | largest difference |")
    print(f"|{'---|' * (len(FORMS) + 4)}")
    reasons = []
    for path in paths or sorted((Path(__file__).parent / "measured").glob("*.json")):
        report = json.loads(path.read_text())
        rows = {row["form"]: row for row in report["rows"]}
        done = [row for row in report["rows"] if "refused" not in row]
        macs = round(100 * done[0]["of dense's MACs"])
        worst = max(row["max_abs_logit_diff"] for row in done)
        cells = [cell(rows[form]) if form in rows else "" for form in FORMS]
        print(f"| {path.stem}, {report['pick']} | {done[0]['dense ms']} | {macs} | {' | '.join(cells)} | {worst:.0e} |")
        refused = {row["refused"].split(". Forms it can take")[0] for row in report["rows"] if "refused" in row}
        reasons += [f"- {path.stem}: {reason}" for reason in sorted(refused)]
    print("\n" + "\n".join(reasons))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
