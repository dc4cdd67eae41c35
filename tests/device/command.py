"""The command line on a simulated accelerator: `python command.py COUNTS.json VERB ...`; counts go to the file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import simulated

if __name__ == "__main__":
    simulated.install()
    import safetensors.torch

    from sparsesearch import cli

    save_file = safetensors.torch.save_file
    safetensors.torch.save_file = lambda tensors, *rest, **options: save_file(
        {name: getattr(tensor, "held", tensor).detach() for name, tensor in tensors.items()}, *rest, **options
    )
    counts, sys.argv = Path(sys.argv[1]), ["sparsesearch", *sys.argv[2:]]
    try:
        cli.main()
    finally:
        rows = [[event, line, *numbers] for (event, line), numbers in simulated.COUNTS.items()]
        counts.write_text(json.dumps(rows))
