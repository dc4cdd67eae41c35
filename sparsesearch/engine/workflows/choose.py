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
from sparsesearch.models import Network
from sparsesearch.models.source import Source
from sparsesearch.plugins import load_plugins
from sparsesearch.runs.directory import check_vacant

ROLES = ("calibration", "training")
# Sample scores that need a loss.
NEED_LOSS = ("perplexity", "el2n", "grand")


def choose(
    config: RunConfig, role: str, by: str, pool: int, take: str, out: Path, pruned: Callable[[str], Any] | None = None
) -> dict[str, Any]:
    """Write the best samples of a pool of the recipe's data, as many as the recipe uses.

    Args:
        role: `calibration` or `training`.
        by: name of a sample score.
        pool: number of samples to choose from.
        take: `hardest`, `middle` or `easiest`.
        out: directory to write.
        pruned: for `capability`: makes the pruned network whose losses are compared, from the hash of dense weights.

    Returns:
        A summary: files, score, counts and mean scores.

    Raises InputError SS101 for an unknown name, SS204 if the pool is not larger than the choice or there are fewer
    samples, SS209 if the model has no loss, SS500 if `out` is not empty.
    """
    _check_names(role, by, take, pruned is not None)
    data = getattr(config.data, role) or config.data.calibration
    if pool <= data.sequences:
        raise problem(
            "SS204",
            f"a pool of {pool} leaves no choice: data.{role}.sequences is {data.sequences}.",
            fix="Give a larger pool (--pool).",
        )
    check_vacant(out)
    load_plugins(config.plugins)
    check_names(config)
    source = source_of(config, PythonInputs())
    network, samples, weights = _open_pool(
        config, source, role, data.model_copy(update={"sequences": pool, "fewer": False})
    )
    if by in NEED_LOSS and not network.distribution:
        raise problem(
            "SS209",
            f"score {by!r} (--by) needs a loss, and the network's outputs are no distribution.",
            fix="Use 'random'.",
        )
    pruned_network = None if pruned is None else pruned(weights)
    model = source.load(torch.float32, "cpu")
    scores = sample_scores(by, model, network, samples, config.batch, pruned_network, config.search.seed)  # type: ignore[arg-type]
    if by == "capability":
        features = mean_outputs(model, network, samples, config.batch)
        rows = representative_rows(scores, features, data.sequences, config.search.seed)
    else:
        rows = best_rows(scores, data.sequences, take)  # type: ignore[arg-type]
    summary = {
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
        manifest = summary | {"scores": np.round(scores, 6).tolist(), "rows": rows.tolist()}
        (work / CHOICE_FILE).write_text(json.dumps(manifest))
    return summary


def _open_pool(config: RunConfig, source: Source, role: str, pool: DataConfig) -> tuple[Network, Samples, str]:
    """Return the network, the samples of the pool and the hash of the weights.

    Raises InputError SS204 if there are fewer samples, SS205 if roles share some.
    """
    description = None if source.task.name == "module" else source.describe()
    all_samples = read_samples(config, source, description, {})
    # The pool replaces the role's samples; other roles are read too, so that overlaps are found.
    all_samples[role] = samples = _read_pool(pool, source, role)
    if not config.data.allow_shared:
        check_disjoint(all_samples)
    network, outputs = describe_network(config, source, all_samples["calibration"] if description is None else None)
    return network, samples, identity(source, outputs)


def _read_pool(pool: DataConfig, source: Source, role: str) -> Samples:
    """Return the samples of the pool; raises InputError SS204 if there are fewer."""
    try:
        return samples_of(pool, source.task, source.directory, role)
    except InputError as error:
        if error.code == "SS204":
            raise problem("SS204", error.message, fix="Give a smaller pool (--pool), or more data.") from None
        raise


def _check_names(role: str, by: str, take: str, pruned: bool) -> None:
    """Raise InputError SS101 for a value that an option does not take."""
    for name, got, allowed in (
        ("role", role, ROLES),
        ("by", by, get_args(SampleScore)),
        ("take", take, get_args(Difficulty)),
    ):
        if got not in allowed:
            raise problem(
                "SS101",
                f"{name} (--{name}) {got!r} is unknown.",
                got=got,
                allowed=allowed,
            )
    if (by == "capability") != pruned:
        raise problem(
            "SS101", "by='capability' and run (--by, --run) need each other: the run has the pruned candidate."
        )
