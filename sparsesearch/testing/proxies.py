"""Conformance of proxies, on the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.arrays import Floats
from sparsesearch.config import RunConfig
from sparsesearch.engine.controller import with_supernet, write_launch
from sparsesearch.engine.job import open_job
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.engine.phases.scoring import score_all
from sparsesearch.engine.workers.worker import Worker
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
    """Check a registered proxy.

    - Scores are finite and differ between candidates of equal cost.
    - They are repeatable, and do not depend on the order of candidates.
    - Scoring leaves the network unchanged.

    Args:
        work: a directory for level stores, which checks with the same recipe share.
        recipe: recipe of a run that the proxy is meant for; None: one of the embedded language model.

    Raises AssertionError, or InputError SS116 for a network that the proxy cannot score.
    """
    launch = auditing.with_limits(prepare(RunConfig.model_validate(recipe or RECIPE)))
    proxies = [proxy for proxy in auditing.choose_proxies(launch, [name]) if proxy.name == name]
    run, reporter = RunDirectory.create(work / name), Reporter(quiet=True)
    with open_job(launch, run, reporter, lambda: write_launch(launch, run)) as opened:
        job = with_supernet(opened)
        genomes = equal_cost_genomes(job.space, SAMPLES, np.random.default_rng(0))
        calls = [(genome.data, [0, 1], 0) for genome in genomes]

        def score(candidates: list[Genome]) -> Floats:
            scores, _ = score_all(job, proxies, candidates)
            return scores[name]

        before = list(job.executor.map(Worker.evaluate, calls))
        scores = score(genomes)
        assert np.isfinite(scores).all(), f"scores are finite numbers, got {scores}"
        assert np.ptp(scores) > 0, "candidates of equal cost have different scores"
        assert np.array_equal(score(genomes[::-1])[::-1], scores), "neither order nor repetition changes a score"
        assert list(job.executor.map(Worker.evaluate, calls)) == before, "scoring leaves the network as it was"
