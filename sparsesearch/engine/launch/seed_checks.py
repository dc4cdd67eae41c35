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
    """Names of the rules that a configuration asks for."""
    searcher = config.search.searcher
    own = [searcher.removeprefix(ALLOCATION)] if searcher.startswith(ALLOCATION) else []
    rules = [name for name in config.search.seeds if not is_run(name)]
    return list(dict.fromkeys([*rules, *own]))


def is_run(name: str) -> bool:
    """Whether a seed is the directory of a run rather than the name of a rule."""
    return "/" in name


def seed_runs(config: RunConfig, weights: str) -> list[str]:
    """Runs whose fronts are seeds; raises InputError SS600 (no run, or no front yet) or SS602 (of another model)."""
    runs = [name for name in config.search.seeds if is_run(name)]
    for name in runs:
        run = RunDirectory.open(Path(name))
        run.read(run.front)
        if weights_in(run.read(run.info)["fingerprint"]["weights"]) != weights:
            raise problem("SS602", f"search.seeds: {name} is a run of another model.", fix="Leave it out.")
    return runs


def check_allocations(config: RunConfig, space: Space) -> list[str]:
    """The evidence that the rules need; raises InputError SS102 for an unknown one, SS111 where none can work."""
    names = allocations_of(config)
    needs = sorted({need for name in names for need in allocation_named(name).needs})
    if names and not allocation_units(space):
        raise problem(
            "SS111",
            f"allocation {names[0]!r} distributes sparsity or widths, and this space has units of neither.",
            fix="Add one, such as {kind: sparsity}.",
        )
    return needs
