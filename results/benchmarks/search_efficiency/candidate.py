"""What evaluating a candidate costs, as a multiple of a plain forward pass of the dense model on the same tokens.

    python results/benchmarks/search_efficiency/candidate.py --run RUN_DIR [--windows 8] [--repeats 9]

A parent at the middle levels, children that differ from it in 1, 2, 4, 8 and all units: swapping, the forward pass and
the KL to dense, without and with the parent's hidden states. Every time is taken between two plain passes and divided
by their mean; medians, and the range of the middle half. Where the time goes is measured on the same children.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import open_run
from sparsesearch.engine.workers.process import keep_freed_memory
from sparsesearch.evaluation import Evaluator, Teacher
from sparsesearch.evaluation.prefix_cache import PrefixCache
from sparsesearch.evaluation.targets import outputs_of
from sparsesearch.runs.results import RunResults
from sparsesearch.space import Genome


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def child_of(parent: Genome, tops: Any, changed: int, rng: np.random.Generator) -> Genome:
    levels = parent.levels.astype(np.int64)
    units = rng.choice(len(levels), size=min(changed, len(levels)), replace=False)
    levels[units] += np.where(levels[units] < tops[units], 1, -1)
    return Genome.of(levels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a finished run; its level store is used")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    results = RunResults(args.run)
    opened, space = open_run(results, TRUSTED), results.space
    supernet, task = opened.supernet, opened.supernet.network.task
    teacher, rows = Teacher(Path(opened.setup.teacher_cache)), np.arange(args.windows)
    inputs = teacher.samples.rows(rows)
    cache = PrefixCache(supernet.model, supernet.network, space, 2**30)
    bare = Evaluator(supernet, teacher, task, args.windows)
    kept = Evaluator(supernet, teacher, task, args.windows, prefixes=cache)
    parent, rng = Genome.of(space.max_levels // 2), np.random.default_rng(0)

    def plain() -> float:
        supernet.apply(space.dense)
        return timed(lambda: outputs_of(supernet.model, task, inputs))

    def ratio(work: Callable[[], Any], before: Callable[[], Any]) -> float:
        first = plain()
        before()
        spent = timed(work)
        return spent / ((first + plain()) / 2)

    plain()
    kept.losses(parent, rows)
    for changed in (1, 2, 4, 8, len(space.units)):
        ratios: dict[str, list[float]] = {"whole": [], "from its first change": [], "swap": [], "forward": [], "kl": []}
        for _ in range(args.repeats):
            child = child_of(parent, space.max_levels, changed, rng)
            for name, evaluator in (("whole", bare), ("from its first change", kept)):

                def ready(evaluator: Evaluator = evaluator) -> None:
                    evaluator.losses(parent, rows)

                ratios[name].append(ratio(lambda e=evaluator, c=child: e.losses(c, rows), ready))  # type: ignore[misc]
            supernet.apply(parent)
            base = plain()
            supernet.apply(parent)
            ratios["swap"].append(timed(lambda c=child: supernet.apply(c)) / base)  # type: ignore[misc]
            outputs = outputs_of(supernet.model, task, inputs)
            ratios["forward"].append(timed(lambda: outputs_of(supernet.model, task, inputs)) / base)
            ratios["kl"].append(timed(lambda o=outputs: teacher.losses(o, rows)) / base)  # type: ignore[misc]
        summary = {name: [round(q, 3) for q in quartiles(values)] for name, values in ratios.items()}
        print(json.dumps({"run": args.run.name, "changed": changed, "tokens": inputs.size, **summary}), flush=True)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return middle, low, high


if __name__ == "__main__":
    main()
