"""Splits CIFAR-10's training images into three roles that share none.

python images.py train.parquet OUT_DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as parquet

# Images of each role.
ROLES = {"calibration": 2_000, "selection": 2_000, "training": 46_000}


def main(source: Path, out: Path) -> None:
    table, start = parquet.read_table(source), 0
    out.mkdir(parents=True, exist_ok=True)
    for role, count in ROLES.items():
        parquet.write_table(table.slice(start, count), out / f"{role}.parquet")
        start += count


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
