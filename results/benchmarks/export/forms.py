"""Every form that a candidate can be written in: reload check, file size, and time against dense and its MACs.

    python forms.py --run RUN --pick max-under:macs=50% --out measured/llama-7m.json

The candidate and dense are exported in each form, loaded by `sparsesearch.load` and called without a cache on `--batch`
samples of the run's selection data, interleaved, one CPU thread, processor time. Graphs are compared with dense graphs.
`--forms` takes some forms only.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

import sparsesearch as ss
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import ReopenedRun, open_run
from sparsesearch.errors import SparseSearchError
from sparsesearch.export import FORMS, export
from sparsesearch.export.forms.graphs import GRAPHS
from sparsesearch.latency.timing import inference_threads, time_against
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation


def written(opened: ReopenedRun, candidate: Evaluation, form: str, out: Path) -> dict[str, Any]:
    """The report of an export; the reason where the candidate cannot take the form."""
    try:
        return export(opened, candidate, out, form)
    except SparseSearchError as error:
        return {"form": form, "refused": str(error)}


def asked(model: Any, inputs: dict[str, Any], task: str) -> Callable[[], Any]:
    """A call of a model, or of the graph of one; modules of one's own take their inputs by position."""
    return partial(model, *inputs.values()) if task == "module" else partial(model, **inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--pick", default="knee")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    logging.disable_progress_bar()
    results, rows = RunResults(args.run), []
    candidate, dense, opened = results.pick(args.pick), results.pick("dense"), open_run(results, TRUSTED)
    samples = results.run.samples("selection").rows(slice(0, args.batch))
    with tempfile.TemporaryDirectory() as directory:
        base: dict[str, Any] = {}
        for form in args.forms:
            result = written(opened, candidate, form, Path(directory) / form)
            if "refused" in result:
                rows.append(result)
                continue
            kind = form if form in GRAPHS else "zeros"
            if kind not in base:
                record = written(opened, dense, kind, Path(directory) / f"dense-{kind}")
                base[kind] = record, ss.load(record["out"], torch.float32, trust_remote_code=True)
            record, whole = base[kind]
            model = ss.load(result["out"], torch.float32, trust_remote_code=True)
            dense_run, run = (asked(net, samples.inputs(net), results.info["task"]) for net in (whole, model))
            with inference_threads(1):
                dense_ns, ns = time_against(dense_run, [lambda run=run: run], "cpu", 0)
            rows.append(
                {
                    "form": form,
                    "verified": result["verified"],
                    "max_abs_logit_diff": result["max_abs_logit_diff"],
                    "MB": round(result["bytes"] / 1e6, 2),
                    "of dense's file": round(result["bytes"] / record["bytes"], 3),
                    "of dense's MACs": round(candidate.costs["macs"] / dense.costs["macs"], 3),
                    "of dense's time": round(ns / dense_ns, 3),
                    "dense ms": round(dense_ns / 1e6, 2),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    record = {"run": args.run.name, "model": results.info["model"], "pick": args.pick, "id": candidate.genome.id}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
