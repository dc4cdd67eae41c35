"""Block-local training with one and with two workers: seconds of it, and the memory of a worker that trains blocks.

    python scaling.py --recipe ../search_efficiency/widths.yaml --model MODEL --calibration TEXT --selection TEXT \\
        --training TEXT --results DIR --tokens 200000 --out measured/llama-scaling.json

Each run has a results directory of its own, so that nothing is shared; Ray, a thread a worker. Beside it the sandwich
rule on as many tokens, whose worker holds the network and the dense one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import sparsesearch as ss
from sparsesearch.runs.cache import USAGE

WAYS = ["block_local=1", "block_local=2", "sandwich=1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("recipe", "results", "training", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("model", "calibration", "selection"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--sequences", type=int, default=512, help="samples to train on")
    parser.add_argument("--ways", nargs="+", default=WAYS, metavar="KIND=WORKERS")
    parser.add_argument("--set", dest="common", type=json.loads, default={}, help="keys of all runs as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.results.mkdir(parents=True, exist_ok=True)
    training = {"source": str(args.training), "sequences": args.sequences, "length": 256}
    rows = []
    for kind, workers in [(kind, int(workers)) for kind, _, workers in (way.partition("=") for way in args.ways)]:
        supernet = {"kind": kind, "tokens": args.tokens, "training": {"learning_rate": 3e-4, "batch": 4}}
        changes = {
            "model.id": args.model,
            "data.training": training,
            "supernet": supernet,
            "search.searcher": "random",
            "search.evals": 2,
            "executor": {"kind": "ray", "workers": workers},
            "data.selection.sequences": 16,
            **args.common,
        }
        run = ss.search(
            args.recipe,
            name="run",
            results=args.results / f"{kind}-{workers}",
            calibration=args.calibration,
            selection=args.selection,
            changes=changes,
            quiet=True,
        )
        lines = run.results.run.lines(run.results.run.ledger)
        spent = {p: sum(e["seconds"] for e in lines if e["phase"] == p) for p in ("supernet", "hidden states")}
        key = run.results.info["fingerprint"]["supernet"]
        place = run.results.run.cache.supernet(key)
        held = json.loads((place / USAGE).read_text())["peak_bytes"]
        rows.append(
            {
                "training": kind,
                "workers": workers,
                "seconds": round(spent["supernet"], 1),
                "seconds of hidden states": round(spent["hidden states"], 1),
                "peak MB a worker": round(held / 1e6),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
