"""Whether a worker grows over a long search: its own memory while it measures many candidates.

    python results/benchmarks/search_efficiency/memory.py --run RUN_DIR [--candidates 10000] [--sequences 2]

The run's own worker, with its caches, measures random genomes on random draws of selection data. One JSON line for
every tenth of the candidates; the last one says by how much memory grew since the first tenth.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from sparsesearch.config import load_config
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import open_run
from sparsesearch.engine.workers.worker import Measured, Worker
from sparsesearch.evaluation.evaluator import minibatch
from sparsesearch.runs.results import RunResults
from sparsesearch.space.sampling import random_genome


def own_bytes() -> int:
    """Bytes of memory that are this process's own (Linux); mapped files are the system's to drop."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a finished run")
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--sequences", type=int, default=2)
    parser.add_argument("--prefix-bytes", type=int, default=2**26)
    args = parser.parse_args()
    results = RunResults(args.run)
    config = load_config(results.run.config, {"executor.prefix_bytes": args.prefix_bytes})
    opened = open_run(results, TRUSTED, config)
    worker = Worker(opened.setup)
    space, rng, sizes = worker.space, np.random.default_rng(0), []
    pool = len(opened.launch.samples["selection"])
    for number in range(1, args.candidates + 1):
        rows = minibatch(pool, args.sequences, 0, number % 50).tolist()
        outcome = worker.evaluate(random_genome(space, rng).data, rows, 0)
        assert isinstance(outcome, Measured), outcome
        if number % (args.candidates // 10) == 0:
            sizes.append(own_bytes())
            row = {
                "candidates": number,
                "megabytes": round(sizes[-1] / 1e6, 1),
                "of_first": round(sizes[-1] / sizes[0], 4),
            }
            print(json.dumps(row | worker.usage()), flush=True)


if __name__ == "__main__":
    main()
