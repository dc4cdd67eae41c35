"""One search four times: local, one Ray worker, two, and two killed half-way and resumed with one; compares archives.

python results/benchmarks/main_job/same.py --model MODEL_DIR --text TEXT_DIR --runs RUNS_DIR

Prints a table row each with the SHA-256 of archive.jsonl. `--ways` takes some of them only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

WAYS = {"local": ["--executor", "local"], "ray-1": ["--workers", "1"], "ray-2": ["--workers", "2"]}
COMMAND = [sys.executable, "-c", "from sparsesearch.cli import main; main()"]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(command: list[str]) -> None:
    """Run a command to its end; raises SystemExit with its stderr if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--evals", type=int, default=80)
    parser.add_argument("--calibration", type=int, default=64, help="windows of 256 tokens")
    parser.add_argument("--selection", type=int, default=16, help="windows of 256 tokens")
    parser.add_argument("--ways", nargs="+", choices=[*WAYS, "killed"], default=[*WAYS, "killed"])
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    recipe = {
        "model": {"id": str(args.model)},
        "units": [{"kind": "ffn_width", "levels": 8, "align": 8}, {"kind": "kv_groups"}],
        "data": {
            "calibration": {"source": str(args.text / "calib.txt"), "sequences": args.calibration},
            "selection": {"source": str(args.text / "valid.txt"), "sequences": args.selection},
        },
        "search": {"searcher": "nsga2", "evals": args.evals, "options": {"population": 24, "tokens": 2048}},
    }
    path = args.runs / "same.yaml"
    path.write_text(yaml.safe_dump(recipe))
    search = [*COMMAND, "search", str(path), "--results", str(args.runs)]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for name, options in WAYS.items():
        if name in args.ways:
            run([*search, "--name", name, *options])
            print(f"| {name} | {digest(args.runs / name / 'archive.jsonl')} |", flush=True)
    if "killed" not in args.ways:
        return
    archive = args.runs / "killed" / "archive.jsonl"
    process = subprocess.Popen([*search, "--name", "killed", "--workers", "2"], **quiet)
    while True:
        ended = process.poll() is not None
        if archive.exists() and archive.read_bytes().count(b"\n") >= args.evals // 2:
            break
        assert not ended, "the search failed"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lines = archive.read_bytes().count(b"\n")
    run([*COMMAND, "resume", str(args.runs / "killed"), "--workers", "1"])
    print(f"| ray-2, controller killed after {lines} lines, resumed with 1 worker | {digest(archive)} |")


if __name__ == "__main__":
    main()
