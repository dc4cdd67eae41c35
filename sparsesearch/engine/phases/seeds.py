"""Genomes for generation 0: from closed-form allocations, fronts of other runs, and the run that is refined."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from sparsesearch.allocation import allocation_units, densities_by_name, genome_at_densities, genome_at_limits
from sparsesearch.allocation.rule_inputs import Evidence
from sparsesearch.config import RunConfig
from sparsesearch.engine.job import Job
from sparsesearch.engine.launch.refinement import coarse_genomes, front_genomes
from sparsesearch.engine.launch.seed_checks import allocations_of, is_run, required_evidence
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.searchers.registry import options_of
from sparsesearch.space import Genome, Space

# Number of sizes of a rule's genomes if neither limits nor the searcher set it.
DEFAULT_SIZES = 8


def seed_genomes(job: Job) -> dict[str, Genome]:
    """Return genomes by name, at the limits or at several sizes; a resumed run reads them from `seeds.json`."""
    config, run = job.launch.config, job.run
    if not allocations_of(config) and not config.search.seeds:
        return coarse_genomes(config, job.space)
    if run.seeds.exists():
        return {name: Genome.of(levels) for name, levels in run.read(run.seeds).items()}
    genomes = coarse_genomes(config, job.space)
    for path in filter(is_run, config.search.seeds):
        genomes |= front_genomes(path, job.space, Path(path).name)
    genomes |= _rule_genomes(job)
    run.write(run.seeds, {name: genome.levels.tolist() for name, genome in genomes.items()})
    return genomes


def _rule_genomes(job: Job) -> dict[str, Genome]:
    """Return the genomes of closed-form allocations, by name."""
    config = job.launch.config
    names, needs = allocations_of(config), required_evidence(config, job.space)
    if not names:
        return {}
    started, genomes = time.monotonic(), dict[str, Genome]()
    job.reporter.phase("allocations", len(names))
    evidence = job.executor.run(Worker.evidence, needs)
    for done, name in enumerate(names, 1):
        genomes |= _genomes_of_rule(name, job.space, evidence, _sizes(config, job.space))
        job.reporter.step(done)
    job.reporter.end()
    job.ledger.add("allocations", time.monotonic() - started, 0)
    return genomes


def _sizes(config: RunConfig, space: Space) -> int:
    """Return the number of sizes of a rule's genomes: the searcher's number of uniform genomes, if it has one."""
    sizes = getattr(options_of(config.search.searcher, config.search.options), "sizes", None)
    # The sizes of learned searches are limits, not a number.
    return sizes if isinstance(sizes, int) else 0 if space.bounds else DEFAULT_SIZES


def _genomes_of_rule(name: str, space: Space, evidence: Evidence, sizes: int) -> dict[str, Genome]:
    """Return a rule's genome at the limits, and its feasible genomes at even steps of sparsity."""
    densities = densities_by_name(name, evidence)
    at_limits = genome_at_limits(space, densities) if space.bounds else None
    top = max(unit.removed_fraction(len(unit.levels) - 1) for unit in allocation_units(space))
    steps = {
        f"{name}@{step:.0%}": genome_at_densities(space, densities(step)) for step in np.linspace(0, top, sizes + 1)[1:]
    }
    feasible = {step: genome for step, genome in steps.items() if space.feasible(genome)}
    return ({} if at_limits is None else {name: at_limits}) | feasible
