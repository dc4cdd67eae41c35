"""The identities of every family on its tiny model, as a table: what the conformance tests assert, with the figures.

    python results/benchmarks/any_network/conformance.py [FAMILY ...] > conformance.md

In-place (zeros) and materialised networks against the sliced one: largest difference of any output over six genomes of
all unit kinds. Export: largest difference after a reload. Costs: parameters and nonzeros counted in those networks.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))
from networks import NETWORKS, make
from support import FAMILIES, Built, kinds_of, run_search, saved_model

import sparsesearch as ss
from sparsesearch.engine.reopen import open_run
from sparsesearch.evaluation import outputs_of
from sparsesearch.export import export
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import random_genome
from sparsesearch.supernet import StitchedSupernet

IMAGES = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))
RECIPE: dict[str, Any] = {
    "units": [{"kind": "channels", "levels": 3}, {"kind": "sparsity", "levels": ["50%"]}],
    "objectives": ["kl", "nonzeros"],
    "batch": 4,
    "executor": {"kind": "local"},
    "search": {"searcher": "random", "evals": 4, "final": 2, "options": {"batch": 2, "tokens": 4, "sizes": 2}},
}
HEAD = ("family", "units found", "in-place - sliced", "materialised - sliced", "export - searched", "costs exact")


def genomes(space: Space) -> list[Genome]:
    rng = np.random.default_rng(0)
    return [space.dense, space.smallest, *(random_genome(space, rng) for _ in range(4))]


def compared(
    sliced: StitchedSupernet, in_place: StitchedSupernet, space: Space, run: Callable[[Any], torch.Tensor]
) -> tuple[str, str, str]:
    """The largest differences, and whether costs equal counting."""
    apart, fresh, exact = [0.0], [0.0], True
    for genome in genomes(space):
        materialised = sliced.materialise(genome)
        expected = run(sliced.apply(genome))
        fresh.append(float((run(materialised) - expected).abs().max()))
        if not any(unit.kind == "experts" and level for unit, level in zip(space.units, genome.levels, strict=True)):
            apart.append(float((run(in_place.apply(genome)) - expected).abs().max()))
        costs, parameters = space.costs.named(genome.levels), list(materialised.parameters())
        exact &= costs["params"] == sum(p.numel() for p in parameters)
        exact &= costs["nonzeros"] == sum(int(torch.count_nonzero(p)) for p in parameters)
    # numpy's maximum, unlike Python's, does not lose a nan.
    return f"{np.max(apart):.0e}", f"{np.max(fresh):.0e}", "yes" if exact else "NO"


def row(name: str, space: Space, figures: tuple[str, str, str], difference: float) -> None:
    units = ", ".join(f"{count} {kind}" for kind, count in Counter(u.kind for u in space.units).items())
    print(f"| {name} | {units} | {figures[0]} | {figures[1]} | {difference:.0e} | {figures[2]} |", flush=True)


def family(name: str, work: Path) -> None:
    built = Built(saved_model(name, work / "model"), work / "store")
    samples = built.launch.samples["selection"].rows(slice(0, 2))
    figures = compared(
        built.supernet("sliced"),
        built.supernet("in_place"),
        built.space,
        lambda model: outputs_of(model, built.launch.network.task, samples),
    )
    results = run_search(work / "run", work / "model", units=kinds_of(work / "model"))
    genome = genomes(results.space)[2]
    chosen = Evaluation(genome, 1, 0, "table", "ok", 1.0, results.space.costs.named(genome.levels))
    row(name, built.space, figures, export(open_run(results), chosen, work / "out")["max_abs_logit_diff"])


def traced(name: str, work: Path) -> None:
    module = make(name)
    run = ss.search(module, RECIPE, data={"calibration": IMAGES[:8], "selection": IMAGES[8:]}, results=work, quiet=True)
    sliced, space = run.reopened.supernet, run.results.space
    in_place = StitchedSupernet(make(name), sliced.network, space, sliced.composer.files, "in_place")

    def outputs(model: Any) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = model(IMAGES)
        return result

    figures = compared(sliced, in_place, space, outputs)
    genome = genomes(space)[2]
    chosen = Evaluation(genome, 1, 0, "table", "ok", 1.0, space.costs.named(genome.levels))
    row(f"traced: {name}", space, figures, run.export(chosen, work / "out")["max_abs_logit_diff"])


def main() -> None:
    logging.disable_progress_bar()
    only = sys.argv[1:]
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    for names, write in ((FAMILIES, family), (NETWORKS, traced)):
        for name in [n for n in names if n in only or not only]:
            with tempfile.TemporaryDirectory() as directory:
                write(name, Path(directory))


if __name__ == "__main__":
    main()
