"""What every proxy must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.arrays import Floats
from sparsesearch.config import RunConfig
from sparsesearch.engine.controller import supernet, write_launch
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.engine.scoring import scored
from sparsesearch.engine.workflows import audit as auditing
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter
from sparsesearch.space import Genome
from sparsesearch.space.sampling import equal_cost_genomes

# The embedded model and all that can be pruned of it, on little text.
RECIPE: dict[str, Any] = {
    "units": [
        {"kind": "sparsity", "levels": ["50%", "80%"]},
        {"kind": "ffn_width", "levels": [0.5, 0.25]},
        {"kind": "kv_groups"},
        {"kind": "drop_ffn"},
    ],
    "limits": ["nonzeros<=60%"],
    "pruners": {"sparsity": "magnitude", "width": "magnitude"},
    "data": {
        "calibration": {"source": "stdlib:calibration", "sequences": 4, "length": 32},
        "selection": {"source": "stdlib:selection", "sequences": 4, "length": 32},
    },
    "executor": {"kind": "local"},
}
SAMPLES = 6


def check_proxy(name: str, work: Path, recipe: dict[str, Any] | None = None) -> None:
    """Raise AssertionError where a registered proxy breaks what searches and audits rely on.

    Scores must be finite, differ between candidates of equal cost, and be the same again and in another order; scoring
    must leave the network as it was.

    Args:
        work: a directory of its own; what is built there for one proxy serves the next one of the same recipe.
        recipe: a run for which the proxy is meant, in place of the embedded language model's.
    """
    launch = auditing.limited(prepare(RunConfig.model_validate(recipe or RECIPE)))
    proxies = [proxy for proxy in auditing.chosen(launch, [name]) if proxy.name == name]
    run, reporter = RunDirectory.create(work / name), Reporter(quiet=True)
    write_launch(launch, run)
    with supernet(launch, run, reporter) as (space, executor, ledger, setup):
        genomes = equal_cost_genomes(space, SAMPLES, np.random.default_rng(0))
        calls = [(genome.data, [0, 1]) for genome in genomes]

        def score(wanted: list[Genome]) -> Floats:
            scores, _ = scored(launch, setup, space, proxies, wanted, executor, reporter, ledger)
            return scores[name]

        before = list(executor.map("evaluate", calls))
        scores = score(genomes)
        assert np.isfinite(scores).all(), f"scores are finite numbers, got {scores}"
        assert np.ptp(scores) > 0, "candidates of equal cost have different scores"
        assert np.array_equal(score(genomes[::-1])[::-1], scores), "neither order nor repetition changes a score"
        assert list(executor.map("evaluate", calls)) == before, "scoring leaves the network as it was"
