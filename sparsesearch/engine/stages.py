"""Pruning in stages: how far each goes."""

from __future__ import annotations

from sparsesearch.engine.checks import check_training
from sparsesearch.engine.launch import Launch
from sparsesearch.errors import InputError
from sparsesearch.space import Space


def check_stages(launch: Launch, tokens: int) -> None:
    """Raise InputError SS119 where a stage's model could not be searched again, SS106 without limits, SS118."""
    kinds = sorted({unit.kind for unit in launch.space.units} - {"sparsity"})
    if kinds:
        raise InputError(
            "SS119", f"stages search unstructured sparsity, not {', '.join(kinds)}: models of uneven shapes cannot be "
            "searched again.", "Keep units of kind sparsity.",
        )  # fmt: skip
    if not launch.space.bounds:
        raise InputError("SS106", "stages lead to limits, and the recipe has none.", "Give --limit 'sparsity>=70%'.")
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
