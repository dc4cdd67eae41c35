"""Pruning in stages: how far each goes, its search and its recovery."""

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
    """Raise InputError SS119 where a stage's model could not be searched again, SS106 without limits, SS118."""
    if not isinstance(launch.source, Checkpoint):
        raise problem(
            "SS119",
            "stages search model directories, and what a function returns is exported as its state alone.",
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
            fix="Give --limit 'sparsity>=70%'.",
        )
    check_training(launch.config, launch.network, launch.space, launch.samples, tokens)


def limits_of_stage(space: Space, stage: int, stages: int) -> list[str]:
    """Limits of one of several stages, of which each leaves the same share of what the one before left.

    The last ones are the space's own.
    """
    if stage == stages:
        return [bound.text for bound in space.bounds]
    found = []
    for limit, bound in zip(space.limits, space.bounds, strict=True):
        whole = space.prunable if limit.cost == "sparsity" else space.dense_costs[bound.cost]
        left = (bound.maximum / whole) ** (stage / stages)
        found.append(f"sparsity>={100 * (1 - left):.4f}%" if limit.cost == "sparsity" else f"{limit.cost}<={left:.4%}")
    return found


def changes_of_stage(first: Launch, model: str, stage: int, stages: int) -> dict[str, Any]:
    """What of the recipe is another in a stage.

    Args:
        first: of the recipe as it is.
        model: that the stage begins with; later ones are taught by the first.
    """
    own = {"model.id": model, "limits": limits_of_stage(first.space, stage, stages)}
    config = first.config.model
    return own | ({"model.teacher": config.teacher or config.id} if stage > 1 else {})


def searched_stage(launch: Launch, path: Path, reporter: Reporter) -> RunResults:
    """The search of a stage: made, gone on with, or read.

    Raises InputError SS602 where one of other options is there, SS129 where that names other code.
    """
    if not (path / "run.yaml").exists():
        return controller.start(launch, path, reporter)
    if RunResults(path).info["fingerprint"] != launch.fingerprint:
        raise problem("SS602", f"{path} was made with other options.", fix="Give another --name.")
    check_same_code(path, launch.config)
    return RunResults(path) if (path / "front.json").exists() else controller.resume(path, {}, reporter, TRUSTED)


def recover_stage(results: RunResults, changes: dict[str, Any], tokens: int, reporter: Reporter) -> Recovered:
    """Train the best candidate of a stage; raises as `prepare_recovery` and `recover` do."""
    recovery = prepare_recovery(results, changes, tokens, access=TRUSTED)
    (recovered,) = recover(recovery, [results.pick("best")], reporter)
    return recovered
