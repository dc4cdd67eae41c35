"""`sparsesearch doctor`: is this machine ready?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sparsesearch.cli.options import Json, print_json, say


def doctor(json_: Json = False) -> None:
    """Print versions, processors, memory, disk, and whether Ray and the hub can be used."""
    import torch

    from sparsesearch.engine.versions import versions
    from sparsesearch.engine.worker import has_bfloat16

    found = {
        **versions(),
        "cpus": os.cpu_count(),
        "bfloat16": "native" if has_bfloat16("cpu") else "slow",
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "free disk here": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB",
        "can write here": os.access(Path.cwd(), os.W_OK),
        "hub offline": os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"),
    }
    if json_:
        print_json(found)
        return
    for key, value in found.items():
        say(f"{key:<16} {value}")
    if found["ray"] == "missing":
        say("Ray is missing: use --executor local.")
