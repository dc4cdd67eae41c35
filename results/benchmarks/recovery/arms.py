"""What searches are worth after recovery, at equal compute: a token of training counts as three of evaluation.

    python arms.py --recipe ../search_efficiency/unstructured.yaml --model MODEL --calibration TEXT --selection TEXT \\
        --training TEXT --test TEXT --results DIR --seeds 0,1 --out arms.json --arms '{"NAME": {"search.tokens": 9}}'

Each arm is a search with the keys given. `recover` is training tokens of what it found (`pick`; what was learned, where
a search learns), `rest` as many as the first arm of the seed leaves, `recovery` keys that change for it; an arm with
`search.rungs` has trained its own. An arm that is `seeded` begins with the front of an earlier one and pays for that
search too. Measured are the quality on selection data, before that training and after it, and perplexity or accuracy on
test data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from measured import parser_of, samples_from, tested

import sparsesearch as ss
from sparsesearch.config import load_config
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.phases.trials import kept_weights
from sparsesearch.engine.reopen import open_run
from sparsesearch.engine.workflows import recover as recovering
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import TRAINING_PASSES
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation


def compute(results: RunResults) -> int:
    """Tokens of evaluation that search, rungs and recovery came to; the search's last measurements are left out, which
    are the same for all arms."""
    searched = load_config(results.run.config).search.tokens or 0
    seeds = [Path(seed) for seed in load_config(results.run.config).search.seeds if "/" in seed]
    searched += sum(load_config(RunDirectory.open(seed).config).search.tokens or 0 for seed in seeds)
    lines = results.run.lines(results.run.ledger)
    trained = sum(e["tokens"] for e in lines if e["phase"].startswith("training"))
    climbed = len(results.rung_evaluations) * results.info["selection_sequences"] * results.info["length"]
    return int(searched + TRAINING_PASSES * trained + climbed)


def learned_by(results: RunResults) -> dict[str, Evaluation]:
    """What a learned search ended with: with the weights or masks that it learned, and with the store's weights."""
    groups = {"learned": results.learned, "refitted": [e for e in results.final if e.origin.startswith("learned")]}
    return {name: min(evaluations, key=lambda e: e.quality) for name, evaluations in groups.items() if evaluations}


def ended(
    results: RunResults, pick: str, tokens: int, recovery: dict[str, Any], test: Path, sequences: int
) -> dict[str, Any]:
    """What a run found after `tokens` of training, or as its rungs left it: quality and test metric."""
    learned = learned_by(results)
    best = min(learned.values(), key=lambda e: e.quality) if learned else results.pick(pick)
    quality, weights = best.quality, kept_weights(results.run, best)
    if tokens:
        prepared = recovering.prepare_recovery(results, recovery, tokens, access=TRUSTED)
        (done,) = recovering.recover(prepared, [best], Reporter(quiet=True))
        quality, weights = done.quality, done.weights
    config = load_config(results.run.config)
    opened = open_run(results, TRUSTED)
    samples = samples_from(opened, config.data.selection, str(test), sequences)
    return {
        "genome": best.genome.id,
        "compute": compute(results),
        "before": round(best.quality, 4),
        "weights": "learned" if best in results.learned else "refitted",
        **{f"before, {name}": round(e.quality, 4) for name, e in learned.items()},
        results.quality: quality,
        results.test_metric: tested(opened, best, weights, samples, config),
    }


def main() -> None:
    parser = parser_of(__doc__)
    args = parser.parse_args()
    torch.set_num_threads(1)
    training = {"source": str(args.training), "sequences": args.sequences, "length": args.length}
    rows = []
    for seed in map(int, args.seeds.split(",")):
        total = 0
        for name, settings in args.arms.items():
            keys = dict(settings)
            recover, pick, seeded = keys.pop("recover", 0), keys.pop("pick", "best"), keys.pop("seeded", None)
            recovery = keys.pop("recovery", {})
            if seeded:
                keys["search.seeds"] = [str(args.results / f"{seeded}-s{seed}")]
            seeds = {"search.seed": seed, "training.seed": seed}
            changes = {"model.id": args.model, "data.training": training, **seeds, **args.common, **keys}
            run = ss.search(
                args.recipe,
                name=f"{name}-s{seed}",
                results=args.results,
                calibration=args.calibration,
                selection=args.selection,
                changes=changes,
                quiet=True,
            )
            if recover == "rest":
                recover = max(total - compute(run.results), 0) // TRAINING_PASSES
            measures = ended(run.results, pick, recover, recovery, args.test, args.test_sequences)
            rows.append({"arm": name, "seed": seed} | measures)
            total = total or rows[-1]["compute"]
            print(json.dumps(rows[-1]), flush=True)
            args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
