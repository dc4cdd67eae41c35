"""Choosing samples from a pool with a recipe's model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from sparsesearch.calibration.sample_scores import (
    Difficulty,
    SampleScore,
    best_rows,
    mean_outputs,
    representative_rows,
    sample_scores,
)
from sparsesearch.config import DataConfig, RunConfig
from sparsesearch.data import Samples, samples_of
from sparsesearch.data.text import CHOICE_FILE, compatibility_key
from sparsesearch.engine.launch.checks import check_disjoint, check_names
from sparsesearch.engine.launch.identity import identity
from sparsesearch.engine.launch.prepare import PythonInputs, describe_network, read_samples, source_of
from sparsesearch.errors import InputError, problem
from sparsesearch.files import atomic_write_tree
from sparsesearch.models.source import Source
from sparsesearch.plugins import load_plugins
from sparsesearch.runs.directory import check_vacant

ROLES = ("calibration", "training")
# What is scored by a loss.
LOSSES = ("perplexity", "el2n", "grand")


def choose(
    config: RunConfig, role: str, by: str, pool: int, take: str, out: Path, pruned: Callable[[str], Any] | None = None
) -> dict[str, Any]:
    """Write the best samples of a pool of the recipe's data, as many as it wants; what was written and why.

    Args:
        pruned: for `capability`: makes the network whose degradation counts, of a model of these weights.

    Raises InputError SS101 for an unknown name, SS204 where the pool is not larger than what is wanted or there is not
    so much, SS209 where a model without a head has no loss, SS500 where `out` is taken.
    """
    _check_names(role, by, take, pruned is not None)
    data = getattr(config.data, role) or config.data.calibration
    if pool <= data.sequences:
        raise problem(
            "SS204",
            f"a pool of {pool} leaves nothing to choose: data.{role}.sequences is {data.sequences}.",
            fix="Give a larger --pool.",
        )
    check_vacant(out)
    load_plugins(config.plugins)
    check_names(config)
    source = source_of(config, PythonInputs())
    described = None if source.task.name == "module" else source.describe()
    all_samples = read_samples(config, source, described, {})
    # The pool stands for the role's samples; other roles are as they are, so that overlaps are found.
    all_samples[role] = samples = _read_pool(data.model_copy(update={"sequences": pool, "fewer": False}), source, role)
    if not config.data.allow_shared:
        check_disjoint(all_samples)
    network, known = describe_network(config, source, all_samples["calibration"] if described is None else None)
    weights = identity(source, known)
    if by in LOSSES and not network.distribution:
        raise problem(
            "SS209", f"--by {by} needs a loss, and outputs that are no distribution have none.", fix="Use --by random."
        )
    other = None if pruned is None else pruned(weights)
    model = source.load(torch.float32, "cpu")
    scores = sample_scores(by, model, network, samples, config.batch, other, config.search.seed)  # type: ignore[arg-type]
    if by == "capability":
        features = mean_outputs(model, network, samples, config.batch)
        rows = representative_rows(scores, features, data.sequences, config.search.seed)
    else:
        rows = best_rows(scores, data.sequences, take)  # type: ignore[arg-type]
    told = {
        "out": str(out),
        "by": by,
        "take": "groups" if by == "capability" else take,
        "pool": len(samples),
        "chosen": len(rows),
        "length": samples.length,
        "mean_chosen": float(scores[rows].mean()),
        "mean_pool": float(scores.mean()),
        "weights": weights,
        "source": data.source,
        "fits": compatibility_key(network.task, source.directory),
    }
    with atomic_write_tree(out) as work:
        samples.rows(rows).save(work)
        scored = told | {"scores": np.round(scores, 6).tolist(), "rows": rows.tolist()}
        (work / CHOICE_FILE).write_text(json.dumps(scored))
    return told


def _read_pool(data: DataConfig, source: Source, role: str) -> Samples:
    try:
        return samples_of(data, source.task, source.directory, role)
    except InputError as error:
        if error.code == "SS204":
            raise problem("SS204", error.message, fix="Give a smaller --pool, or more data.") from None
        raise


def _check_names(role: str, by: str, take: str, pruned: bool) -> None:
    for what, got, allowed in (
        ("--role", role, ROLES),
        ("--by", by, get_args(SampleScore)),
        ("--take", take, get_args(Difficulty)),
    ):
        if got not in allowed:
            raise problem(
                "SS101",
                f"{what} {got!r} is unknown.",
                got=got,
                allowed=allowed,
            )
    if (by == "capability") != pruned:
        raise problem("SS101", "--by capability and --run go together: whose capabilities were lost.")
