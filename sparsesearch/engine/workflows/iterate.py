"""Pruning in stages: the limits of each stage, its search and its recovery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparsesearch.engine import controller
from sparsesearch.engine.launch.access import TRUSTED, check_same_code
from sparsesearch.engine.launch.checks import check_training
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.workflows.recover import Recovered, prepare_recovery, recover
from sparsesearch.errors import problem
from sparsesearch.models.source import Checkpoint
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.space import Space


def check_stages(launch: Launch, tokens: int) -> None:
    """Raise InputError if stages are impossible: SS119 for a model that cannot be searched again, SS106 without limits.

    Args:
        tokens: training tokens of each stage. Raises as `check_training` does.
    """
    if not isinstance(launch.source, Checkpoint):
        raise problem(
            "SS119",
            "stages search model directories, and the model of a function is exported as its state only.",
            fix="Search, recover and search again by hand.",
        )
    kinds = sorted({unit.kind for unit in launch.space.units} - {"sparsity"})
    if kinds:
        raise problem(
            "SS119",
            f"stages search unstructured sparsity, not {', '.join(kinds)}: models of uneven shapes cannot be "
            "searched again.",
            fix="Keep units of kind sparsity.",
        )
    if not launch.space.bounds:
        raise problem(
            "SS106",
            "iterate needs at least one limit to work towards; the recipe has none.",
            fix="Give limits such as 'sparsity>=70%' (--limit).",
        )
    check_training(launch.config, launch.network, launch.space, launch.samples, tokens)


def limits_of_stage(space: Space, stage: int, stages: int) -> list[str]:
    """Return the limits of one of several stages; each stage keeps the same share of its predecessor's cost.

    The last stage has the space's own limits.
    """
    if stage == stages:
        return [bound.text for bound in space.bounds]
    limits = []
    for limit, bound in zip(space.limits, space.bounds, strict=True):
        dense = space.prunable if limit.cost == "sparsity" else space.dense_costs[bound.cost]
        kept = (bound.maximum / dense) ** (stage / stages)
        limits.append(f"sparsity>={100 * (1 - kept):.4f}%" if limit.cost == "sparsity" else f"{limit.cost}<={kept:.4%}")
    return limits


def changes_of_stage(first: Launch, model: str, stage: int, stages: int) -> dict[str, Any]:
    """Return the keys of the recipe that change in a stage.

    Args:
        first: launch of the unchanged recipe.
        model: model that the stage starts from; from the second stage on, the first model is the teacher.
    """
    changes = {"model.id": model, "limits": limits_of_stage(first.space, stage, stages)}
    config = first.config.model
    return changes | ({"model.teacher": config.teacher or config.id} if stage > 1 else {})


def search_stage(launch: Launch, path: Path, reporter: Reporter) -> RunResults:
    """Start, resume or read the search of a stage; returns its results.

    Raises InputError SS602 if the run has other options, SS129 if it names other code.
    """
    if not (path / "run.yaml").exists():
        return controller.start(launch, path, reporter)
    if RunResults(path).info["fingerprint"] != launch.fingerprint:
        raise problem("SS602", f"{path} was made with other options.", fix="Give another name (--name).")
    check_same_code(path, launch.config)
    return RunResults(path) if (path / "front.json").exists() else controller.resume(path, {}, reporter, TRUSTED)


def recover_stage(results: RunResults, changes: dict[str, Any], tokens: int, reporter: Reporter) -> Recovered:
    """Train the best candidate of a stage; raises as `prepare_recovery` and `recover` do."""
    recovery = prepare_recovery(results, changes, tokens, access=TRUSTED)
    (recovered,) = recover(recovery, [results.pick("best")], reporter)
    return recovered
