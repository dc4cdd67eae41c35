"""What learning says it will hold against what it held: a process of its own for each searcher, a few steps each.

    python memory.py --recipe ../search_efficiency/widths.yaml --model MODEL --calibration TEXT --selection TEXT \\
        --results DIR --searchers gates,cofi --set '{"training.batch": 4}' --out memory.json

Held is the highest resident memory of the process, less what it had when the levels and the teacher were there and
nothing had been learned. Linux.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from sparsesearch.config import load_config
from sparsesearch.engine import controller
from sparsesearch.engine.job import Job
from sparsesearch.engine.launch.learning_plan import memory_note
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.engine.phases import learning
from sparsesearch.runs.progress import Reporter
from sparsesearch.searchers.learned.base import LearnedTraits

STEPS = 4


def memory(name: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def one(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Learn a little in this process."""
    torch.set_num_threads(1)
    data = {"data.calibration.source": args.calibration, "data.selection.source": args.selection}
    settings = {"model.id": args.model, "search.searcher": name, "executor.kind": "local", **data, **args.common}
    step = load_config(args.recipe, settings).training.batch * 256 * 2
    launch = prepare(load_config(args.recipe, settings | {"search.options": {"tokens": STEPS * step}}))
    assert isinstance(launch.traits, LearnedTraits), f"{name} learns nothing"
    held: list[int] = []
    learn = learning.learn

    def watched(job: Job) -> learning.Learned:
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        learned = learn(job)
        held.append(memory("VmHWM") - before)
        return learned

    controller.learn = watched
    controller.start(launch, args.results / f"memory-{name}", Reporter(quiet=True))
    stated = memory_note(launch.config, launch.traits, launch.network, launch.space, launch.samples)
    return {"searcher": name, "stated": stated.split(" SS411")[0], "held": f"{held[0] / 1e9:.2f} GB"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("recipe", "results", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("model", "calibration", "selection", "searchers"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--set", dest="common", type=json.loads, default={}, help="keys as JSON")
    parser.add_argument("--own", action="store_true", help="measure the one searcher in this process")
    args = parser.parse_args()
    if args.own:
        print(json.dumps(one(args, args.searchers)))
        return
    rows = []
    for name in args.searchers.split(","):
        command = [sys.executable, __file__, *sys.argv[1:], "--searchers", name, "--own"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
