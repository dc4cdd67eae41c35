"""Exports the best candidate of a widths run under a size and times it against dense; prints a table row.

python results/benchmarks/main_job/export_speed.py RUN_DIR --model MODEL_DIR --out DIR --under 50% 70%
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Timer

import sparsesearch as ss
from sparsesearch.models import load_model

BATCH, LENGTH = 4, 256


def seconds(model: Any, tokens: torch.Tensor) -> float:
    timer = Timer("model(tokens, use_cache=False)", globals={"model": model, "tokens": tokens}, num_threads=1)
    with torch.no_grad():
        return float(timer.timeit(3).median)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--under", nargs="+", default=["70%", "50%"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = ss.Run.open(args.run)
    dense = load_model(args.model, torch.float32)
    dense_costs, context = run.results.space.dense_costs, 1024
    tokens = torch.randint(0, dense.config.vocab_size, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    print(
        "| params | file bytes | MACs a token kept (256 tokens) | forward time kept | speed-up / MAC reduction | form |"
    )
    print("|---|---|---|---|---|---|")
    for under in args.under:
        candidate = run.pick(f"max-under:params={under}")
        shutil.rmtree(args.out, ignore_errors=True)
        report = run.export(candidate, args.out)
        model = ss.load(args.out, torch.float32)
        # Interleaved, so that a drifting machine drifts for both.
        pairs = [(seconds(dense, tokens), seconds(model, tokens)) for _ in range(9)]
        kept_time = statistics.median(small / full for full, small in pairs)
        # Attention over the context is counted for `context` tokens; here it runs over LENGTH.
        config = dense.config
        attention = 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim
        kv_kept = candidate.costs["kv_bytes"] / dense_costs["kv_bytes"]
        full_macs = dense_costs["macs"] - attention * (context - LENGTH)
        macs = (candidate.costs["macs"] - attention * kv_kept * (context - LENGTH)) / full_macs
        size = (args.model / "model.safetensors").stat().st_size
        print(
            f"| {report['params']:,} ({report['params'] / dense_costs['params']:.0%}) | {report['bytes']:,} "
            f"({report['bytes'] / size:.0%}) | {macs:.1%} | {kept_time:.1%} "
            f"| {macs / kept_time:.2f} | {report['form']}, logit difference {report['max_abs_logit_diff']:.1g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
