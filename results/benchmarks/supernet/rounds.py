"""Týr-the-Pruner's rounds: what each brings, with and without accumulated errors, against one search of all tokens.

    python rounds.py --recipe ../search_efficiency/widths.yaml --model MODEL --calibration TEXT --selection TEXT \\
        --test TEXT --results DIR --tokens 150000 --rounds 4 --out measured/llama-rounds.json

Levels are steps of an eighth at first, and half as large around each round's winner; every round has as many tokens.
The control has the finest steps of the rounds everywhere, and all tokens at once.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import sparsesearch as ss
from sparsesearch.config import DataConfig, load_config
from sparsesearch.data.text import samples_of
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import open_run
from sparsesearch.evaluation import perplexity
from sparsesearch.runs.results import RunResults

SCHEDULE = {"offspring": 32, "survivors": [8, 2, 1], "tokens": [1024, 4096, 16384], "generations": None}


def row(results: RunResults, test: str, sequences: int, **labels: Any) -> dict[str, Any]:
    """What a run ended with."""
    best, config, opened = results.pick("best"), load_config(results.run.config), open_run(results, TRUSTED)
    told_by = DataConfig.model_validate(config.data.selection.model_dump() | {"source": test, "sequences": sequences})
    windows = samples_of(told_by, opened.launch.source.task, opened.launch.source.directory, "test").arrays["input_ids"]
    lines = results.run.lines(results.run.ledger)
    seconds = sum(line["seconds"] for line in lines if line["phase"] in ("calibration statistics", "levels"))
    value = round(perplexity(opened.supernet.apply(best.genome), windows, config.batch), 2)
    return labels | {"kl": round(best.quality, 4), "perplexity": value, "seconds of building levels": round(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("recipe", "results", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("model", "calibration", "selection", "test"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--limit", default="params<=50%")
    parser.add_argument("--tokens", type=int, required=True, help="of each round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--test-sequences", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="common", type=json.loads, default={}, help="keys of all runs as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []

    def search(name: str, steps: int, propagate: str, tokens: int, refines: RunResults | None) -> RunResults:
        levels = [1 - step / steps for step in range(1, steps)]
        changes = {
            "model.id": args.model,
            "limits": [args.limit],
            "search.searcher": "tyr",
            "search.options": SCHEDULE,
            "search.tokens": tokens,
            "search.seed": args.seed,
            "pruners.propagate": propagate,
            "units": [{"kind": "ffn_width", "levels": levels}, {"kind": "kv_groups"}],
            "refines": None if refines is None else str(refines.run.path),
            **args.common,
        }
        return ss.search(
            args.recipe,
            name=name,
            results=args.results,
            calibration=args.calibration,
            selection=args.selection,
            changes=changes,
            quiet=True,
        ).results

    def note(entry: dict[str, Any]) -> None:
        rows.append(entry)
        print(json.dumps(entry), flush=True)
        args.out.write_text(json.dumps(rows, indent=1))

    for propagate in ("dense", "expectation", "sequential"):
        results: RunResults | None = None
        for number in range(1, args.rounds + 1):
            results = search(f"{propagate}-{number}", 8, propagate, args.tokens, results)
            note(
                row(
                    results,
                    args.test,
                    args.test_sequences,
                    errors=propagate,
                    search=f"round {number}",
                    tokens=number * args.tokens,
                )
            )
    whole = search("control", 2 ** (2 + args.rounds), "dense", args.rounds * args.tokens, None)
    labels = {"errors": "dense", "search": "at once", "tokens": args.rounds * args.tokens}
    note(row(whole, args.test, args.test_sequences, **labels))


if __name__ == "__main__":
    main()
