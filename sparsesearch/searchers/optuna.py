"""Optuna's samplers as searchers, in memory; only repaired genomes are measured.

Samplers that model the objectives get each repaired genome as an additional trial; those that evolve a population get
their own trials back, with the values of the repaired genomes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from sparsesearch.config.base import MANY
from sparsesearch.errors import problem
from sparsesearch.searchers.base import WORST, Searcher, Seeds, rank
from sparsesearch.searchers.option_types import SelectionTokens, UniformSizes
from sparsesearch.searchers.records import Evaluation, Proposal
from sparsesearch.space import Genome, Space
from sparsesearch.space.repair import repair

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

# A Gaussian process over more units takes minutes for each candidate.
MAX_GP_UNITS = 40


class OptunaSearcher(Searcher):
    """A sampler of Optuna over the levels of all units."""

    class Options(Searcher.Options):
        batch: int = Field(
            8,
            ge=1,
            le=MANY,
            description="Candidates in a generation, which the sampler proposes before it gets results of any of them.",
        )
        tokens: SelectionTokens = 2048
        sizes: UniformSizes = 8

    options: Options
    # Name of the sampler's class in optuna.samplers.
    sampler: ClassVar[str]
    # Whether the sampler models objectives, and can therefore learn from trials that it did not propose.
    models: ClassVar[bool] = False

    @staticmethod
    def arguments(seed: int, batch: int) -> dict[str, Any]:
        """Return the arguments of the sampler's class, for a seed and a number of trials proposed at once."""
        raise NotImplementedError

    def __init__(
        self, space: Space, objectives: Sequence[str], seed: int, options: Searcher.Options, seeds: Seeds | None = None
    ) -> None:
        super().__init__(space, objectives, seed, options, seeds)
        import optuna  # here, since it takes half a second

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = getattr(optuna.samplers, self.sampler)(**self.arguments(seed, self.options.batch))
        self._optuna = optuna
        self._study = optuna.create_study(directions=["minimize"] * len(self.sampler_objectives), sampler=sampler)
        self._levels: dict[str, Any] = {
            unit.name: optuna.distributions.IntDistribution(0, int(top))
            for unit, top in zip(space.units, space.max_levels, strict=True)
        }
        self._pending_trials: list[tuple[Trial, Genome]] = []

    @property
    def sampler_objectives(self) -> tuple[str, ...]:
        """The objectives that the sampler minimises."""
        return self.objectives

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if index == 0:
            return self.starting_proposals(self.options.sizes, self.options.tokens)
        trials = [self._study.ask(self._levels) for _ in range(self.options.batch)]
        genomes = [Genome.of([trial.params[unit.name] for unit in self.space.units]) for trial in trials]
        self._pending_trials = [(trial, repair(self.space, g, rng)) for trial, g in zip(trials, genomes, strict=True)]
        return [Proposal(genome, self.options.tokens, 0, "sampler") for _, genome in self._pending_trials]

    def learn(self, evaluations: list[Evaluation]) -> None:
        values = {e.genome: self._values(e) for e in evaluations}
        for trial, genome in self._pending_trials:
            if self.models:
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(trial, values[genome])
        if self.models or not self._pending_trials:
            for genome in filter(self.space.feasible, values):
                self._study.add_trial(self._external_trial(genome, values[genome]))

    def _external_trial(self, genome: Genome, values: list[float]) -> FrozenTrial:
        """Return a trial that Optuna did not propose."""
        levels: dict[str, Any] = {u.name: int(i) for u, i in zip(self.space.units, genome.levels, strict=True)}
        return self._optuna.create_trial(params=levels, distributions=self._levels, values=values)

    def _values(self, evaluation: Evaluation) -> list[float]:
        if rank(evaluation) == float("inf"):
            return [WORST] * len(self.sampler_objectives)
        return self.point(evaluation)[: len(self.sampler_objectives)]


class TPESearcher(OptunaSearcher):
    """Tree-structured Parzen estimators (Optuna), for several objectives at once."""

    sampler, models = "TPESampler", True

    @staticmethod
    def arguments(seed: int, batch: int) -> dict[str, Any]:
        return {"seed": seed, "multivariate": True, "constant_liar": batch > 1}


class OptunaNSGA2Searcher(OptunaSearcher):
    """NSGA-II (Optuna): uniform crossover and redrawn levels, without the moves of `nsga2` that know the space."""

    sampler = "NSGAIISampler"

    @staticmethod
    def arguments(seed: int, batch: int) -> dict[str, Any]:
        return {"seed": seed, "population_size": max(2, batch)}


class OptunaNSGA3Searcher(OptunaSearcher):
    """NSGA-III (Optuna): as `optuna:nsga2`, with reference directions for three objectives and more."""

    sampler = "NSGAIIISampler"

    @staticmethod
    def arguments(seed: int, batch: int) -> dict[str, Any]:
        return {"seed": seed, "population_size": max(2, batch)}


class GPSearcher(OptunaSearcher):
    """Gaussian processes with expected hypervolume improvement (Optuna); for spaces of few units."""

    sampler, models = "GPSampler", True

    @staticmethod
    def arguments(seed: int, batch: int) -> dict[str, Any]:
        return {"seed": seed, "deterministic_objective": True}

    def check(self) -> None:
        if len(self.space.units) > MAX_GP_UNITS:
            raise problem(
                "SS113",
                f"optuna:gp takes spaces of up to {MAX_GP_UNITS} units; this one has {len(self.space.units)}.",
                fix="Use optuna:tpe.",
            )


class CMAESSearcher(OptunaSearcher):
    """CMA-ES (Optuna) on the quality alone, at the limits."""

    sampler = "CmaEsSampler"

    @staticmethod
    def arguments(seed: int, batch: int) -> dict[str, Any]:
        return {"seed": seed, "with_margin": True}

    def check(self) -> None:
        if not self.space.bounds:
            raise problem(
                "SS106",
                "optuna:cmaes minimises quality at a limit, and the recipe has none.",
                fix="Give limits such as 'nonzeros<=30%' (--limit), or use optuna:tpe.",
            )

    @property
    def sampler_objectives(self) -> tuple[str, ...]:
        return self.objectives[:1]


SAMPLERS: dict[str, type[OptunaSearcher]] = {
    "tpe": TPESearcher,
    "nsga2": OptunaNSGA2Searcher,
    "nsga3": OptunaNSGA3Searcher,
    "gp": GPSearcher,
    "cmaes": CMAESSearcher,
}
