"""Fronts of supernets, as found and after recovery, at equal compute.

    python fronts.py --recipe ../search_efficiency/widths.yaml --model MODEL --calibration TEXT --selection TEXT \\
        --training TEXT --test TEXT --results DIR --seeds 0 --sizes 75,60,50,40 --recover 40000 --out fronts.json \\
        --arms '{"sandwich": {"supernet": {"kind": "sandwich", "tokens": 600000}}, "stitched": {}}'

Each arm is a search with the keys given. Of its front, the best candidate that is no larger than each size is trained
on `recover` tokens; where an arm trained no supernet, also on as many more as its share of the largest supernet's
training. A row is one candidate: quality on selection data, and perplexity or accuracy on test data, as found, after
recovery, and after recovery with all that the arm was given.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from measured import parser_of, samples_from, tested

import sparsesearch as ss
from sparsesearch.config import load_config
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import ReopenedRun, open_run
from sparsesearch.engine.workflows import recover as recovering
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation


def no_larger(results: RunResults, size: int) -> Evaluation:
    """The best of the front within a percentage of the dense network's cost."""
    cost = results.info["objectives"][1]
    maximum = results.space.dense_costs[cost] * size / 100
    return min((e for e in results.front if e.costs[cost] <= maximum), key=lambda e: e.quality)


def trained_tokens(results: RunResults) -> int:
    """Tokens of all sub-networks that the supernet was trained on."""
    return load_config(results.run.config).supernet.tokens or 0


def recovered(
    results: RunResults, opened: ReopenedRun, picks: list[Evaluation], tokens: int, recovery: dict[str, Any], test: Any
) -> dict[str, tuple[float, float]]:
    """Quality and test metric of candidates after training, by id; those that diverged are left out."""
    config = load_config(results.run.config)
    prepared = recovering.prepare_recovery(results, recovery, tokens, access=TRUSTED)
    done = recovering.recover(prepared, picks, Reporter(quiet=True))
    return {
        d.candidate.genome.id: (round(d.quality, 4), round(tested(opened, d.candidate, d.weights, test, config), 4))
        for d in done
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--sizes", default="75,60,50,40", help="percentages of the dense network's cost")
    parser.add_argument("--recover", type=int, required=True, help="training tokens of each candidate")
    args = parser.parse_args()
    torch.set_num_threads(1)
    training = {"source": str(args.training), "sequences": args.sequences, "length": args.length}
    sizes = [int(size) for size in args.sizes.split(",")]
    most = max(keys.get("supernet", {}).get("tokens", 0) for keys in args.arms.values())
    rows = json.loads(args.out.read_text()) if args.out.exists() else []
    for seed in map(int, args.seeds.split(",")):
        for name, settings in args.arms.items():
            keys, recovery = dict(settings), settings.get("recovery", {})
            keys.pop("recovery", None)
            seeds = {"search.seed": seed, "training.seed": seed}
            changes = {"model.id": args.model, "data.training": training, "limits": [], **seeds, **args.common, **keys}
            if changes.get("supernet", {}).get("tokens"):
                changes["supernet.training.seed"] = seed
            if (args.results / f"{name}-s{seed}" / "front.json").exists():  # of an earlier call
                results = RunResults(args.results / f"{name}-s{seed}")
            else:
                results = ss.search(
                    args.recipe,
                    name=f"{name}-s{seed}",
                    results=args.results,
                    calibration=args.calibration,
                    selection=args.selection,
                    changes=changes,
                    quiet=True,
                ).results
            opened = open_run(results, TRUSTED)
            config = load_config(results.run.config)
            test = samples_from(opened, config.data.selection, str(args.test), args.test_sequences)
            picks = [no_larger(results, size) for size in sizes]
            after = recovered(results, opened, picks, args.recover, recovery, test)
            spared = (most - trained_tokens(results)) // len(sizes)
            whole = after
            if spared:
                whole = recovered(results, opened, picks, args.recover + spared, recovery, test)
            for size, pick in zip(sizes, picks, strict=True):
                once, all_given = (measures.get(pick.genome.id, (None, None)) for measures in (after, whole))
                rows.append(
                    {
                        "arm": name,
                        "seed": seed,
                        "size": size,
                        "genome": pick.genome.id,
                        "cost": pick.costs[results.info["objectives"][1]],
                        results.quality: round(pick.quality, 4),
                        f"{results.quality}, recovered": once[0],
                        f"{results.quality}, equal compute": all_given[0],
                        results.test_metric: round(tested(opened, pick, None, test, config), 4),
                        f"{results.test_metric}, recovered": once[1],
                        f"{results.test_metric}, equal compute": all_given[1],
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
            args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
