"""`sparsesearch doctor`: check this machine, or the files of a run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, print_json, say
from sparsesearch.errors import DamagedFile

# Names of the facts for people, if they differ from the keys of `--json`.
_LABELS = {
    "cpus": "CPU cores",
    "bfloat16": "bfloat16 on CPU",
    "cuda": "GPU",
    "free disk here": "free disk space",
    "can write here": "can write files",
    "hub offline": "hub is offline",
}


def doctor(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run directory to read in full.")] = None,
    json_: Json = False,
) -> None:
    """Print versions, processors, disk and settings of this machine; with a run, check its files and caches.

    Every file of the run, and of the caches in the same results directory, is read in full and shown as intact or
    damaged.
    """
    if run is not None:
        _examine(Path(run), json_)
        return
    from sparsesearch.devices import accelerator, device_name, has_bfloat16
    from sparsesearch.runs.versions import versions

    gpu = accelerator()
    report = {
        **versions(),
        "cpus": os.cpu_count(),
        "bfloat16": "native" if has_bfloat16("cpu") else "slow",
        "cuda": device_name(gpu) if gpu else "none",
        "free disk here": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB",
        "can write here": os.access(Path.cwd(), os.W_OK),
        "hub offline": os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"),
    }
    if json_:
        print_json(report)
        return
    for key, value in report.items():
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
        say(f"{_LABELS.get(key, key):<16} {text}")
    if report["ray"] == "missing":
        say("Ray is not installed. Search in one process: --executor local.")


def _examine(run: Path, json_: bool) -> None:
    """Print whether each part of a run is intact; raises DamagedFile SS601 if one is not."""
    from sparsesearch.api import Run

    faults = Run.open(run).examine()
    damaged = [name for name, fault in faults.items() if fault]
    if json_:
        print_json(faults)
        raise typer.Exit(DamagedFile.exit_code if damaged else 0)
    for name, fault in faults.items():
        say(f"{name:<40} {fault or 'intact'}")
    if damaged:
        raise DamagedFile(run, f"{len(damaged)} of {len(faults)} parts are damaged: {', '.join(damaged[:3])}")
