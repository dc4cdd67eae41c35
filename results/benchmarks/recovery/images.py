"""Splits CIFAR-10's training images into three roles that share none.

python images.py train.parquet OUT_DIR [--counts 2000 2000 46000]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow.parquet as parquet

# Images of each role.
ROLES = {"calibration": 2_000, "selection": 2_000, "training": 46_000}


def main(source: Path, out: Path, counts: list[int]) -> None:
    table, start = parquet.read_table(source), 0
    out.mkdir(parents=True, exist_ok=True)
    for role, count in zip(ROLES, counts, strict=True):
        parquet.write_table(table.slice(start, count), out / f"{role}.parquet")
        start += count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--counts", type=int, nargs=len(ROLES), default=list(ROLES.values()), help="images of each role"
    )
    args = parser.parse_args()
    main(args.source, args.out, args.counts)
