"""Candidates a second through the whole controller with an evaluator that costs nothing.

    python results/benchmarks/search_efficiency/controller.py [--units 1000] [--evals 20000] [--searchers nsga2 random]

Ask, budget, archive on disk, tell: real `Rounds` on a space of many units, whose executor answers at once. One JSON
line a searcher, with and without a limit.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.config import validate
from sparsesearch.data import Samples
from sparsesearch.engine.job import Job
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.phases.measuring import Call
from sparsesearch.engine.phases.rounds import Rounds
from sparsesearch.engine.workers.worker import Measured
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.space import Genome, Limit, Part, Space, Unit

POOL, LENGTH = 64, 256


class FreeExecutor:
    """Losses from a formula: the sum of squares of what each unit loses, and a little of each sequence's own."""

    def __init__(self, space: Space) -> None:
        self.weights = np.random.default_rng(0).random(len(space.units)) / space.max_levels**2

    def map(self, method: Any, calls: Sequence[Call], **_: Any) -> Iterator[Measured]:
        for genome, sequences, _ in calls:
            loss = float(self.weights @ Genome(genome).levels.astype(float) ** 2)
            yield Measured([loss * (1 + s % 7 / 100) for s in sequences])

    def close(self) -> None: ...


def space_of(units: int, limits: list[str]) -> Space:
    """Matrices of three sizes with 16 sparsity levels each, four to a block."""
    totals = [(4096, 8192, 16384)[i % 3] for i in range(units)]
    chosen = [
        Unit(f"block{i // 4}.linear{i}", "sparsity", i // 4, n, tuple(n * k // 16 for k in range(16, 0, -1)))
        for i, n in enumerate(totals)
    ]
    parts = [
        Part(
            f"{u.module}.weight",
            (u.total,),
            tuple((k,) for k in u.levels),
            (u.total,),
            (0,),
            sparsity=u.name,
            prunable=True,
        )
        for u in chosen
    ]
    return Space(tuple(chosen), tuple(parts), 4, tuple(map(Limit.parse, limits)))


def rate(searcher: str, space: Space, evals: int, options: dict[str, Any]) -> float:
    recipe = {
        "units": [{"kind": "sparsity"}],
        "objectives": ["kl", "nonzeros"],
        "search": {"searcher": searcher, "evals": evals, "options": options},
        "executor": {"kind": "local"},
    }
    samples = Samples({"input_ids": np.zeros((POOL, LENGTH), dtype=np.int64)})
    nothing: Any = None  # no network: what is measured is a formula
    launch = Launch(validate(recipe, "recipe"), nothing, nothing, space, {"selection": samples}, 4, "float32")
    with tempfile.TemporaryDirectory() as directory:
        run = RunDirectory.create(Path(directory) / "run")
        executor: Any = FreeExecutor(space)
        rounds = Rounds(Job(launch, run, space, executor, Reporter(quiet=True), Ledger(run), nothing), {})
        started = time.perf_counter()
        rounds.run()
        return rounds.budget.used_evals / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--evals", type=int, default=20_000)
    parser.add_argument("--searchers", nargs="+", default=["random", "nsga2", "evolution"])
    args = parser.parse_args()
    for searcher in args.searchers:
        for limits in ([], ["nonzeros<=50%"]):
            if searcher == "evolution" and not limits:
                continue
            speed = rate(searcher, space_of(args.units, limits), args.evals, {})
            print(json.dumps({"searcher": searcher, "units": args.units, "limits": limits, "per_second": round(speed)}))


if __name__ == "__main__":
    main()
