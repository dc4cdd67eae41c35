"""Pruning by magnitude while training, without a search: as many weights as a candidate, and as many training tokens.

    python baselines.py --run RUN_DIR --pick best --tokens 400000 --training train.txt --test test.txt --out table.json

Gradual magnitude pruning, GraNet, and iterative magnitude pruning with rewinding, from the dense network; the same data
in the same order, the same loss and the same rate as `recover`. Measured on test data, as in `curves.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from measured import metric, samples_from

from sparsesearch.config import TrainingConfig, load_config
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.launch.numerics import compute_dtype
from sparsesearch.engine.reopen import open_run
from sparsesearch.runs.results import RunResults
from sparsesearch.training import Objective
from sparsesearch.training.gradual_magnitude import make_start, prune_gradually, prune_with_rewinding
from sparsesearch.training.loop import steps_of
from sparsesearch.training.masks import Masks

ROUNDS = 5
METHODS: dict[str, Any] = {
    "gradual magnitude": lambda *arguments: prune_gradually(*arguments),
    "GraNet": lambda *arguments: prune_gradually(*arguments, regrow=0.5),
    f"magnitude, {ROUNDS} rounds, rewound": lambda *arguments: prune_with_rewinding(
        *arguments, rounds=ROUNDS, rewind=max(arguments[-1] // 100, 1)
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--pick", default="best")
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--training", required=True)
    parser.add_argument("--sequences", type=int, default=4096)
    parser.add_argument("--set", dest="changes", default="{}", help="training options as JSON")
    parser.add_argument("--test", required=True)
    parser.add_argument("--test-sequences", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = RunResults(args.run)
    config = load_config(results.run.config)
    opened = open_run(results, TRUSTED)
    supernet, network = opened.supernet, opened.supernet.network

    training = samples_from(opened, config.data.calibration, args.training, args.sequences)
    test = samples_from(opened, config.data.selection, args.test, args.test_sequences)
    options = TrainingConfig.model_validate(config.training.model_dump() | json.loads(args.changes))
    objective = Objective(network, supernet.materialise(supernet.space.dense).float(), options)
    candidate = supernet.materialise(results.pick(args.pick).genome)
    weights = dict(candidate.named_parameters())
    kept = sum(int((weights[name] != 0).sum()) for name in network.matrices)
    start = make_start(network, objective, training, options, compute_dtype(config, torch.float32))
    rows = []
    for name, method in METHODS.items():
        model = supernet.materialise(supernet.space.dense).float()
        trained = method(start, model, network, kept, steps_of(args.tokens, options, training.length)).eval()
        left = sum(int(mask.sum()) for mask in Masks.of_zeros(trained, network.matrices).kept.values())
        value = metric(opened, trained, test, config)
        rows.append({"method": name, "tokens": args.tokens, "weights": left, results.test_metric: value})
        print(json.dumps(rows[-1]), flush=True)
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
