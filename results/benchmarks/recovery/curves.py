"""Quality against training tokens, a method at a time, with the dense network trained on as many beside it.

    python curves.py --run RUN_DIR --pick best --tokens 0,100000,400000,1600000 --training train.txt

Every point is a training run of its own, with a schedule made for its tokens; dense trains on the task's own loss.
Measured: the run's quality on selection data, and perplexity or accuracy on `--test` (text or images that no other role
has seen).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from measured import samples_from, tested

from sparsesearch.config import load_config
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import open_run
from sparsesearch.engine.workflows import recover as recovering
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults

DENSE = "dense, full"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--pick", default="best")
    parser.add_argument("--methods", default="full,perp,masked_lora")
    parser.add_argument(
        "--rates", default="", help="METHOD=RATE with commas between, dense among them; the run's own elsewhere"
    )
    parser.add_argument("--tokens", required=True, help="with commas between; 0 is what was found")
    parser.add_argument("--training", help="data to train on")
    parser.add_argument("--sequences", type=int, default=4096)
    parser.add_argument("--set", dest="changes", default="{}", help="other keys as JSON")
    parser.add_argument("--test", required=True)
    parser.add_argument("--test-sequences", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = RunResults(args.run)
    config, opened = load_config(results.run.config), open_run(results, TRUSTED)
    data = config.data
    test = samples_from(opened, data.selection, args.test, args.test_sequences)
    rates = dict(pair.split("=") for pair in args.rates.split(",") if pair)
    candidate, dense = results.pick(args.pick), results.dense
    assert dense is not None
    rows: list[dict[str, Any]] = []
    for name in [*filter(None, args.methods.split(",")), DENSE]:
        one, method = (dense, "full") if name == DENSE else (candidate, name)
        rate = rates.get("dense" if name == DENSE else method)
        for tokens in map(int, args.tokens.split(",")):
            weights, quality = None, one.quality
            if tokens:
                changes: dict[str, Any] = {"training.method": method, "executor.kind": "local"}
                changes |= {"training.learning_rate": float(rate)} if rate else {}
                changes |= json.loads(args.changes)
                # Distilled from itself it would not move.
                changes |= {"training.distill": 0} if name == DENSE else {}
                if args.training:
                    settings = (data.training or data.calibration).model_dump()
                    changes["data.training"] = settings | {"source": args.training, "sequences": args.sequences}
                prepared = recovering.prepare_recovery(results, changes, tokens, access=TRUSTED)
                (done,) = recovering.recover(prepared, [one], Reporter())
                weights, quality = done.weights, done.quality
            rows.append(
                {
                    "method": name,
                    "tokens": tokens,
                    results.quality: quality,
                    results.test_metric: tested(opened, one, weights, test, config),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
            args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
