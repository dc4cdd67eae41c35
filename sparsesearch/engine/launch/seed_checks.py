"""Checks of `search.seeds`: names of allocation rules, and directories of runs whose fronts are seeds."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.allocation import allocation_named, allocation_units
from sparsesearch.config import RunConfig
from sparsesearch.engine.launch.identity import weights_in
from sparsesearch.errors import problem
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.searchers.registry import ALLOCATION
from sparsesearch.space import Space


def allocations_of(config: RunConfig) -> list[str]:
    """Return the names of the allocation rules that a configuration uses."""
    searcher = config.search.searcher
    searched = [searcher.removeprefix(ALLOCATION)] if searcher.startswith(ALLOCATION) else []
    rules = [name for name in config.search.seeds if not is_run(name)]
    return list(dict.fromkeys([*rules, *searched]))


def is_run(name: str) -> bool:
    """Return whether a seed is the directory of a run rather than the name of a rule."""
    return "/" in name


def seed_runs(config: RunConfig, weights: str) -> list[str]:
    """Return the runs whose fronts are seeds; raises InputError SS600 (no run or front) or SS602 (another model)."""
    runs = [name for name in config.search.seeds if is_run(name)]
    for name in runs:
        run = RunDirectory.open(Path(name))
        run.read(run.front)
        if weights_in(run.read(run.info)["fingerprint"]["weights"]) != weights:
            raise problem("SS602", f"search.seeds: {name} is a run of another model.", fix="Leave it out.")
    return runs


def required_evidence(config: RunConfig, space: Space) -> list[str]:
    """Return the evidence that the allocation rules of a recipe need, sorted.

    Raises InputError SS102 for an unknown rule, SS111 if the space has no units that rules allocate.
    """
    names = allocations_of(config)
    needs = sorted({need for name in names for need in allocation_named(name).needs})
    if names and not allocation_units(space):
        raise problem(
            "SS111",
            f"allocation {names[0]!r} distributes sparsity or widths, and this space has no units of either.",
            fix="Add one, such as {kind: sparsity}.",
        )
    return needs
