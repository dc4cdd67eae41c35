"""Coarse to fine: the levels of a run are a finer grid around the front of an earlier run.

Tyr-the-Pruner halves its step around each round's winner (Li et al., 2025); here it is halved around the whole front.
"""

from __future__ import annotations

from pathlib import Path

from sparsesearch.config import RunConfig
from sparsesearch.engine.launch.identity import weights_in
from sparsesearch.errors import problem
from sparsesearch.models.space_builder import Coarse
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.results import RunResults
from sparsesearch.space import Genome, Space


def coarse_levels(config: RunConfig, weights: str) -> Coarse:
    """Return the levels of each unit of the refined run, and those of its front; empty if no run is refined.

    Args:
        weights: hash of the model's weights.

    Raises InputError SS600 (not a run, or not finished) or SS602 (a run of another model).
    """
    if config.refines is None:
        return {}
    results = _finished_run(config.refines)
    if weights_in(results.info["fingerprint"]["weights"]) != weights:
        raise problem(
            "SS602",
            f"{config.refines} is a run of another model; its levels do not apply.",
            fix="Refine a run of this model.",
        )
    fronts = [e.genome.levels for e in results.front]
    # A pattern such as 2:4 has one level, with nothing between it and dense.
    fixed = {"sparsity"} if config.pruners.pattern else set()
    return {
        unit.name: (unit.levels, {int(levels[i]) for levels in fronts})
        for i, unit in enumerate(results.space.units)
        if unit.kind not in fixed
    }


def coarse_genomes(config: RunConfig, space: Space) -> dict[str, Genome]:
    """Return the front of the refined run in the levels of a space, as `front_genomes` does; empty if there is none."""
    return {} if config.refines is None else front_genomes(config.refines, space, "coarse")


def front_genomes(path: str, space: Space, label: str) -> dict[str, Genome]:
    """Return the front of a run by `LABEL NUMBER`, in the nearest levels of another space.

    Genomes outside the space's limits are left out. Raises InputError SS600 if the run is not finished.
    """
    results = _finished_run(path)
    genomes = {}
    for number, evaluation in enumerate(results.front):
        kept = {u.name: u.levels[i] for u, i in zip(results.space.units, evaluation.genome.levels, strict=True)}
        genome = Genome.of([_nearest(unit.levels, kept.get(unit.name, unit.total)) for unit in space.units])
        if space.feasible(genome):
            genomes[f"{label} {number}"] = genome
    return genomes


def _finished_run(path: str) -> RunResults:
    run = RunDirectory.open(Path(path))
    if not run.front.exists():
        raise problem("SS600", f"{path} has no front yet.", fix=f"Use 'sparsesearch resume {path}' to finish it.")
    return RunResults(run.path)


def _nearest(levels: tuple[int, ...], kept: int) -> int:
    return min(range(len(levels)), key=lambda i: abs(levels[i] - kept))
