"""CPU seconds of pruning sweeps at two commits, alternating: structured OBS and SparseGPT on random layers.

    git worktree add /tmp/before 86fdf84
    python results/benchmarks/scale/sweeps.py --before /tmp/before [--inputs 2048] [--repeats 2] [--out DIR]

Each measurement is a process of its own with one thread. Structured OBS removes half of the inputs, one element each
(a neuron), and refits four levels; SparseGPT makes four levels with their output errors, of one matrix and of three
that read the same inputs, as those of queries, keys and values do. Rows compare the order of removal, nonzeros and
errors of both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

SHARES = (0.75, 0.6, 0.4, 0.25)
# SparseGPT's matrix has more inputs than the other one, as a down projection has.
WIDER = 3 / 2
MATRICES = {"sparsegpt": 1, "sparsegpt, 3 of the same inputs": 3}


def layer(outputs: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random weights (O, I) and second moments (I, I) of inputs of different scale, float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * inputs, inputs, generator=generator) * torch.rand(inputs, generator=generator)
    return torch.randn(outputs, inputs, generator=generator), x.T @ x / len(x)


def measure(method: str, outputs: int, inputs: int) -> dict[str, Any]:
    """Return seconds and results of one method, with the sparsesearch that is importable."""
    from sparsesearch import pruning
    from sparsesearch.calibration import InputStatistics
    from sparsesearch.config import PrunerConfig

    torch.set_num_threads(1)
    inputs = inputs if method == "obs" else int(inputs * WIDER)
    weight, moment = layer(outputs, inputs)
    target = pruning.Layer(weight, InputStatistics(moment, torch.zeros(inputs), torch.zeros(inputs)))
    started = time.process_time()
    if method == "obs":
        kept = [inputs - int(inputs * removed / 2) for removed in (0.25, 0.5, 0.75, 1.0)]
        group = pruning.Group((pruning.Reader(target, torch.arange(inputs)[:, None]),), ())
        order, levels = pruning.structured("obs")(group, kept, PrunerConfig())
        result: dict[str, Any] = {"order": order.tolist(), "values": [float(level[0].norm()) for level in levels]}
    else:
        for _ in range(MATRICES[method]):
            result = _sparsegpt(pruning, target, [int(outputs * inputs * share) for share in SHARES])
    return result | {"seconds": time.process_time() - started}


def _sparsegpt(pruning: Any, target: Any, kept: list[int]) -> dict[str, Any]:
    from sparsesearch.config import PrunerConfig

    levels = pruning.unstructured("sparsegpt")(target, kept, PrunerConfig())
    if hasattr(pruning, "layer_errors"):
        weights, errors = levels.weights, pruning.layer_errors(target, levels).tolist()
    else:  # before levels had errors
        moment, weights = target.inputs.second_moment, levels
        errors = [pruning.layer_error(target.weight_OI, level, moment) for level in weights]
    return {"order": [int(torch.count_nonzero(level)) for level in weights], "values": errors}


def in_process(root: Path, method: str, outputs: int, inputs: int) -> dict[str, Any]:
    """Return `measure` of the checkout in `root`."""
    command = [sys.executable, __file__, "--measure", method, "--outputs", str(outputs), "--inputs", str(inputs)]
    done = subprocess.run(command, env={"PYTHONPATH": str(root), "PATH": ""}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{root}: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return how far two results agree: in order of removal or nonzeros, and in norms of levels or output errors."""
    pairs = zip(before["values"], after["values"], strict=True)
    return {
        "same": before["order"] == after["order"],
        "largest relative difference": max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="checkout of the commit to compare with")
    parser.add_argument("--outputs", type=int, default=512)
    parser.add_argument("--inputs", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, help="directory for sweeps.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.outputs, args.inputs)))
        return
    here, rows = Path(__file__).parents[3], []
    for method in ("obs", *MATRICES):
        results: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
        for _ in range(args.repeats):
            for side, root in (("before", args.before or here), ("after", here)):
                results[side].append(in_process(root, method, args.outputs, args.inputs))
        seconds = {side: min(result["seconds"] for result in each) for side, each in results.items()}
        row = {"method": method, "outputs": args.outputs, "inputs": args.inputs, **seconds}
        row["ratio"] = seconds["before"] / seconds["after"]
        row |= compare(results["before"][0], results["after"][0])
        print(json.dumps(row), flush=True)
        rows.append(row)
    if args.out:
        (args.out / "sweeps.json").write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
