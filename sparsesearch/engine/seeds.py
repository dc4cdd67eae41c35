"""Genomes for generation 0: of closed-form allocations, of fronts of other runs, and of a run that is refined."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from sparsesearch.allocation import (
    allocation,
    allocation_units,
    densities_by_name,
    genome_at_densities,
    genome_at_limits,
)
from sparsesearch.allocation.rule_inputs import Evidence
from sparsesearch.config import RunConfig
from sparsesearch.engine.launch.identity import weights_in
from sparsesearch.engine.launch.refinement import coarse_genomes, front_genomes
from sparsesearch.engine.workers.executor import Executor, alive
from sparsesearch.errors import problem
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.searchers.registry import ALLOCATION, options_of
from sparsesearch.space import Genome, Space

# Sizes at which a rule is asked where neither limits nor the searcher say.
SIZES = 8


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
    needs = sorted({need for name in names for need in allocation(name).needs})
    if names and not allocation_units(space):
        raise problem(
            "SS111",
            f"allocation {names[0]!r} distributes sparsity or widths, and this space has units of neither.",
            fix="Add one, such as {kind: sparsity}.",
        )
    return needs


def seed_genomes(
    config: RunConfig, space: Space, run: RunDirectory, executor: Executor, reporter: Reporter, ledger: Ledger
) -> dict[str, Genome]:
    """Genomes by name, at the limits or at several sizes; kept in `seeds.json`, so that a resumed run has the same."""
    if not allocations_of(config) and not config.search.seeds:
        return coarse_genomes(config, space)
    if run.seeds.exists():
        return {name: Genome.of(levels) for name, levels in run.read(run.seeds).items()}
    found = coarse_genomes(config, space)
    for name in filter(is_run, config.search.seeds):
        found |= front_genomes(name, space, Path(name).name)
    found |= _of_rules(config, space, executor, reporter, ledger)
    run.write(run.seeds, {name: genome.levels.tolist() for name, genome in found.items()})
    return found


def _of_rules(
    config: RunConfig, space: Space, executor: Executor, reporter: Reporter, ledger: Ledger
) -> dict[str, Genome]:
    """Genomes of closed-form allocations, by name."""
    names, needs = allocations_of(config), check_allocations(config, space)
    if not names:
        return {}
    started, found = time.monotonic(), dict[str, Genome]()
    reporter.phase("allocations", len(names))
    (evidence,) = alive(executor.map("evidence", [(needs,)]))
    for done, name in enumerate(names, 1):
        found |= _genomes(name, space, evidence, _sizes(config, space))
        reporter.step(done)
    reporter.end()
    ledger.add("allocations", time.monotonic() - started, 0)
    return found


def _sizes(config: RunConfig, space: Space) -> int:
    """At how many sizes rules are asked: as many as the searcher wants of uniform genomes, if it says so."""
    wanted = getattr(options_of(config.search.searcher, config.search.options), "sizes", None)
    # Of learned searches they are limits.
    return wanted if isinstance(wanted, int) else 0 if space.bounds else SIZES


def _genomes(name: str, space: Space, evidence: Evidence, sizes: int) -> dict[str, Genome]:
    """A rule's genome at the limits, and those of even steps of sparsity that are within them."""
    densities = densities_by_name(name, evidence)
    at = genome_at_limits(space, densities) if space.bounds else None
    top = max(unit.removed_fraction(len(unit.levels) - 1) for unit in allocation_units(space))
    steps = {
        f"{name}@{step:.0%}": genome_at_densities(space, densities(step)) for step in np.linspace(0, top, sizes + 1)[1:]
    }
    return ({} if at is None else {name: at}) | {n: genome for n, genome in steps.items() if space.feasible(genome)}
