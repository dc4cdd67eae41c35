"""Latency and memory that a table predicts, against what candidates take.

    python predicted.py --recipe ../search_efficiency/widths.yaml --set model.id=llama-7m \\
        --set data.calibration.source=calib.txt --set data.selection.source=valid.txt --out measured/llama-7m.json

Candidates of random levels, at sizes between the smallest and dense; each is cut out of the network and timed in turn
with dense. The table is made first, on the same device.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr

from sparsesearch.config import load_config, parse_assignment
from sparsesearch.engine.launch.latency_table import measure_now
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.latency import with_latency
from sparsesearch.latency.pieces import copy_module, request_inputs, run_request
from sparsesearch.latency.timing import TimedCall, inference_threads, peak_bytes, time_against
from sparsesearch.runs.progress import Reporter
from sparsesearch.space import Genome, Space
from sparsesearch.supernet.elastic import ElasticSupernet


def drawn(space: Space, count: int) -> list[Genome]:
    """Random genomes of which each leans to another size."""
    rng = np.random.default_rng(0)
    lean = np.linspace(0.05, 0.95, count)
    return [Genome.of(rng.binomial(space.max_levels, share)) for share in lean]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY.PATH=VALUE")
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    changes: dict[str, Any] = dict(parse_assignment(text) for text in args.changes)
    launch = prepare(load_config(args.recipe, changes | {"limits": []}))
    config, network, samples = launch.config, launch.network, launch.samples["calibration"]
    table = measure_now(config, launch.source, network, launch.space, samples, Reporter())
    space, setting = with_latency(launch.space, config.context, table), table.setting
    model = launch.source.load(getattr(torch, setting.dtype), setting.device)
    elastic, held = ElasticSupernet(model, network, space), []

    def asked(genome: Genome) -> TimedCall:
        cut = copy_module(model, "", elastic, genome)
        inputs = request_inputs(samples, network.task, setting, cut)
        run = partial(run_request, cut, network.task, inputs, setting.generated)
        weights = sum(p.numel() * p.element_size() for p in cut.parameters())
        held.append(weights + peak_bytes(run, setting.device))
        return run

    genomes = drawn(space, args.candidates)
    with inference_threads(setting.threads):
        dense = asked(space.dense)
        times = time_against(dense, [partial(asked, genome) for genome in genomes], setting.device, held[0])
    rows = []
    for genome, ns, most in zip([space.dense, *genomes], times, held, strict=True):
        costs = space.costs.named(genome.levels)
        rows.append(
            {
                "id": genome.id,
                "macs": costs["macs"] / space.dense_costs["macs"],
                "predicted": costs["latency_ns"] / table.dense_ns,
                "measured": ns / times[0],
                "predicted_bytes": costs["memory_bytes"],
                "measured_bytes": most,
            }
        )
    predicted, measured, macs = (np.array([row[key] for row in rows[1:]]) for key in ("predicted", "measured", "macs"))
    errors, bytes_off = predicted / measured - 1, [r["predicted_bytes"] / r["measured_bytes"] - 1 for r in rows]
    summary = {
        "model": config.model.id,
        "setting": vars(setting),
        "dense ms": table.dense_ns / 1e6,
        "candidates": len(genomes),
        "pearson": round(float(pearsonr(predicted, measured)[0]), 3),
        "spearman": round(float(spearmanr(predicted, measured)[0]), 3),
        "spearman of MACs": round(float(spearmanr(macs, measured)[0]), 3),
        "mean error": round(float(np.abs(errors).mean()), 3),
        "worst error": round(float(np.abs(errors).max()), 3),
        "worst error of memory": round(float(np.abs(bytes_off).max()), 3),
    }
    print(json.dumps(summary), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(summary | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
