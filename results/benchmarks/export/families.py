"""Which forms every family's tiny model takes, as a table; each that is written has been reloaded and compared.

    python results/benchmarks/export/families.py [FAMILY ...] [--forms FORM ...] > families.md

An uneven candidate of widths, heads, experts and dropped sublayers; for `uniform` one with equal widths in all layers.
Figures: the largest difference of any output after a reload in a fresh process. `no`: refused, with the reason below.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))
from support import FAMILIES, kinds_of, run_search, saved_model

from sparsesearch.engine.reopen import open_run
from sparsesearch.errors import SparseSearchError
from sparsesearch.export import export
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import random_genome

FORMS = ("uniform", "padded", "uneven", "onnx", "torch_export")


def candidate(space: Space, form: str) -> Evaluation:
    genome = random_genome(space, np.random.default_rng(0))
    if form == "uniform":
        genome = Genome.of([1 if unit.kind in ("ffn_width", "channels") else 0 for unit in space.units])
    return Evaluation(genome, 1, 0, "benchmark", "ok", 0.0, space.costs.named(genome.levels))


def written(results: RunResults, form: str, out: Path) -> tuple[str, str]:
    """A cell of the table, and the reason where there is no export."""
    try:
        report = export(open_run(results), candidate(results.space, form), out, form)
    except SparseSearchError as error:
        return "no", str(error)
    return f"{report['max_abs_logit_diff']:.0e}", ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", metavar="FAMILY", nargs="*", help="all if none is given")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    args = parser.parse_args()
    names, forms = args.families or list(FAMILIES), args.forms
    logging.disable_progress_bar()
    print(f"| family | {' | '.join(forms)} |\n|{'---|' * (len(forms) + 1)}")
    reasons = []
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            work = Path(directory) / name
            model = saved_model(name, work / "model")
            results = run_search(work / "run", model, units=kinds_of(model, heads=False))
            cells = {form: written(results, form, work / form) for form in forms}
            print(f"| {name} | {' | '.join(cell for cell, _ in cells.values())} |", flush=True)
            reasons += [f"- {name}, {form}: {reason}" for form, (_, reason) in cells.items() if reason]
    print("\n" + "\n".join(reasons))


if __name__ == "__main__":
    main()
