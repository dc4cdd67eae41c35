"""NSGA-II (Deb et al., 2002) and NSGA-III (Deb & Jain, 2014) by pymoo: one run covers the whole range of sizes.

Sorting, crowding and mating are pymoo's; sampling, crossover, mutation and repair are those of `mating`. Optionally,
children race against the population, and the sequences of measurements change from time to time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import Field
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.problems.static import StaticProblem
from pymoo.util.ref_dirs import get_reference_directions

from sparsesearch.config.base import LARGEST, MANY
from sparsesearch.searchers.base import WORST, Searcher, Seeds, rank
from sparsesearch.searchers.evolutionary.mating import BlockCrossover, LearnedMutation, LimitRepair, SpaceSampling
from sparsesearch.searchers.evolutionary.racing import losers, rungs
from sparsesearch.searchers.option_types import Offspring, SelectionTokens, UniformSizes
from sparsesearch.searchers.records import Evaluation, Proposal, role_of_start
from sparsesearch.space import Genome, Space

# Times that pymoo is asked for children until one is new.
MAX_ASKS = 5


class NSGA2Searcher(Searcher):
    """NSGA-II over all objectives: the whole range of sizes in one run."""

    class Options(Searcher.Options):
        population: int = Field(40, ge=4, le=MANY, description="Size of the population.")
        offspring: Offspring = 24
        tokens: SelectionTokens = 2048
        sizes: UniformSizes = 8
        crossover: float = Field(
            0.7, ge=0, le=1, description="Probability that a child is crossed of two parents before it mutates."
        )
        race: float = Field(
            0,
            ge=0,
            lt=1,
            description="Confidence, such as 0.9, at which a child is dropped because a member of the population that "
            "costs no more is better on the same sequences. 0: no race.",
        )
        first_tokens: int = Field(
            1024,
            ge=1,
            le=LARGEST,
            description="Selection tokens after which a race first compares a child, and then after twice as many, and "
            "so on up to `tokens`.",
        )
        rotate: int = Field(
            0,
            ge=0,
            le=LARGEST,
            description="Generations after which the population is measured again on other sequences; 0: never.",
        )

    options: Options
    overlaps = screens = True

    def __init__(self, space: Space, objectives: Any, seed: int, options: Any, seeds: Seeds | None = None) -> None:
        super().__init__(space, objectives, seed, options, seeds)
        self.start = self.starting(self.options.sizes)
        # Dense is measured although it may exceed the limits; as a seed it would be shrunk by pymoo's repair.
        self.seeds = [genome for genome in self.start.values() if space.feasible(genome)]
        self.crossover = BlockCrossover(space, self.options.crossover)
        self.mutation = LearnedMutation(space, self.crossover)
        self._problem = Problem(
            n_var=len(space.units), n_obj=len(self.objectives), xl=0, xu=space.max_levels, vtype=int
        )
        self._algorithm: Any = None
        # Children that pymoo waits for; results of those that race on, on more tokens; finished ones with objectives.
        self._pending: dict[Genome, Any] = {}
        self._undecided: list[Evaluation] = []
        self._finished_children: list[tuple[Any, list[float]]] = []
        # Number of tests so far of each pending child in its race.
        self._test_counts: dict[Genome, int] = {}
        # The population's draw, the number of its generations on it, and the evaluations of its members.
        self._draw = self._generations_on_draw = 0
        self._evaluations: dict[Genome, Evaluation] = {}

    def _start_proposals(self, tokens: int) -> list[Proposal]:
        """Return proposals of the genomes to start from, of which a subclass may have added some."""
        return [
            Proposal(genome, tokens, self._draw, name, role=role_of_start(name)) for name, genome in self.start.items()
        ]

    @property
    def begun(self) -> bool:
        """Whether there is a population."""
        return self._algorithm is not None and self._algorithm.is_initialized

    @property
    def waits(self) -> bool:
        return super().waits or not self.begun

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if self._undecided:
            undecided, self._undecided = self._undecided, []
            rungs = self._rungs()
            return [
                Proposal(e.genome, rungs[self._test_counts[e.genome]], e.draw, e.origin, role=e.role) for e in undecided
            ]
        if self.options.rotate and self.begun and self._generations_on_draw >= self.options.rotate:
            self._draw, self._generations_on_draw = self._draw + 1, 0
            return [Proposal(g, self.options.tokens, self._draw, "rotation", role="repeat") for g in self._population()]
        self._generations_on_draw += 1
        return self._first_generation() if self._algorithm is None else self._offspring(rng)

    def _first_generation(self) -> list[Proposal]:
        """Return the first population, and dense; these do not race."""
        self._algorithm = self._create_initialized()
        population = self._new_children()
        self._add_pending(population, tests_done=len(self._rungs()) - 1)
        tokens = self._rungs()[-1]
        start = {proposal.genome: proposal for proposal in self._start_proposals(tokens)}
        genomes = [*population, *(genome for genome in start if genome not in population)]
        return [start.get(genome) or Proposal(genome, tokens, self._draw, "random") for genome in genomes]

    def _offspring(self, rng: np.random.Generator) -> list[Proposal]:
        children = self._new_children()
        screened = self.screen_children(list(children), self.objectives[1:], rng)
        self._add_pending({genome: children[genome] for genome in screened}, tests_done=0)
        tokens, origins = self._rungs()[0], self.mutation.origins
        parents = [origins[genome].parents if genome in origins else () for genome in screened]
        return [
            Proposal(genome, tokens, self._draw, "offspring", parents=genome_parents)
            for genome, genome_parents in zip(screened, parents, strict=True)
        ]

    def _add_pending(self, children: dict[Genome, Any], tests_done: int) -> None:
        self._pending |= children
        self._test_counts |= dict.fromkeys(children, tests_done)

    def _rungs(self) -> list[int]:
        first, last = self.options.first_tokens, self.options.tokens
        return rungs(first, last) if self.options.race and first < last else [last]

    def _new_children(self) -> dict[Genome, Any]:
        """Return pymoo's next individuals by genome, without pending ones."""
        for _ in range(MAX_ASKS):
            individuals = self._algorithm.ask()
            if individuals is None:  # pymoo found no new genome
                break
            children = {Genome.of(x): child for x, child in zip(individuals.get("X"), individuals, strict=True)}
            if new := {genome: child for genome, child in children.items() if genome not in self._pending}:
                return new
        return {}

    def _create_initialized(self) -> Any:
        """Return the algorithm, whose first population holds the seeds."""
        algorithm = self._create_algorithm(
            pop_size=max(self.options.population, len(self.seeds)),
            n_offsprings=self.children_to_generate(self.options.offspring),
            sampling=SpaceSampling(self.space, self.seeds),
            crossover=self.crossover,
            mutation=self.mutation,
            repair=LimitRepair(self.space),
        )
        algorithm.setup(self._problem, termination=NoTermination(), seed=self.seed)
        return algorithm

    def _create_algorithm(self, **arguments: Any) -> Any:
        return NSGA2(**arguments)

    def _population(self) -> list[Genome]:
        return [Genome.of(row) for row in self._algorithm.pop.get("X")]

    def learn(self, evaluations: list[Evaluation]) -> None:
        self._update_population({e.genome: e for e in evaluations if e.role == "repeat"})
        for evaluation in evaluations:
            if evaluation.role != "repeat" and evaluation.genome in self._pending:
                self._take_result(evaluation)
        if self._finished_children and not (self.waits and self._undecided):
            self._tell_algorithm()

    def _take_result(self, evaluation: Evaluation) -> None:
        """Add a pending child to those to measure further, or with its objectives to the finished ones."""
        genome = evaluation.genome
        self._test_counts[genome] += 1
        values = self._objective_values(evaluation)
        if rank(evaluation) != math.inf:
            if self._test_counts[genome] == len(self._rungs()):
                self._evaluations[genome] = evaluation
            elif (quality := self._losing_quality(evaluation)) is None:
                self._undecided.append(evaluation)
                return
            else:
                values = [_compress(quality), *values[1:]]
        self._finished_children.append((self._pending.pop(genome), values))
        del self._test_counts[genome]

    def _losing_quality(self, evaluation: Evaluation) -> float | None:
        """Return the expected quality of a child that lost against a member of the population; None if it did not."""
        _, *costs = self.point(evaluation)
        same = [e for e in self._evaluations.values() if e.draw == evaluation.draw]
        rivals = [e for e in same if all(a <= b for a, b in zip(self.point(e)[1:], costs, strict=True))]
        if not rivals:
            return None
        best = min(rivals, key=lambda e: e.quality)
        losses = np.array([best.losses[: len(evaluation.losses)], evaluation.losses])
        if not losers(losses, 1, self.options.race, len(self._rungs()) - 1)[1]:
            return None
        return best.quality + float(np.mean(losses[1] - losses[0]))

    def _tell_algorithm(self) -> None:
        """Give finished children to pymoo, and learn from their survival."""
        children = Population.create(*(child for child, _ in self._finished_children))
        objectives = np.array([values for _, values in self._finished_children])
        self._finished_children = []
        Evaluator().eval(StaticProblem(self._problem, F=objectives), children)
        self._algorithm.tell(infills=children)
        survivors = set(self._population())
        self.mutation.learn((Genome.of(x) for x in children.get("X")), survivors)
        self._evaluations = {genome: e for genome, e in self._evaluations.items() if genome in survivors}

    def _update_population(self, evaluations: dict[Genome, Evaluation]) -> None:
        """Set new objectives of members of the population, and sort it again."""
        if not evaluations:
            return
        algorithm = self._algorithm
        for member, genome in zip(algorithm.pop, self._population(), strict=True):
            if genome in evaluations:
                member.set("F", np.array(self._objective_values(evaluations[genome])))
        self._evaluations |= {genome: e for genome, e in evaluations.items() if rank(e) != math.inf}
        algorithm.pop = algorithm.survival.do(
            self._problem,
            algorithm.pop,
            n_survive=len(algorithm.pop),
            algorithm=algorithm,
            random_state=algorithm.random_state,
        )

    def adopt(self, evaluations: list[Evaluation]) -> None:
        """Learn from measurements of an earlier session beyond the generations that could be repeated."""
        self._draw = max((e.draw for e in evaluations), default=0)
        usable = {e.genome: e for e in evaluations if e.draw == self._draw and self.space.feasible(e.genome)}
        individuals = Population.new("X", np.array([g.levels for g in usable], dtype=np.int64)) if usable else []
        self._finished_children = [
            (i, self._objective_values(e)) for i, e in zip(individuals, usable.values(), strict=True)
        ]
        if self._finished_children:
            self._tell_algorithm()

    def _objective_values(self, evaluation: Evaluation) -> list[float]:
        if rank(evaluation) == math.inf:
            return [WORST] * len(self.objectives)
        quality, *costs = self.point(evaluation)
        return [_compress(quality), *costs]

    def report(self) -> dict[str, float]:
        return {f"move {name}": share for name, share in self.mutation.choice.probabilities.items()}


class NSGA3Searcher(NSGA2Searcher):
    """NSGA-III: reference directions instead of crowding, for three objectives and more."""

    def _create_algorithm(self, **arguments: Any) -> Any:
        count, objectives = arguments["pop_size"], len(self.objectives)
        steps = 1
        while math.comb(steps + objectives, objectives - 1) <= count:
            steps += 1
        return NSGA3(ref_dirs=get_reference_directions("das-dennis", objectives, n_partitions=steps), **arguments)


def _compress(quality: float) -> float:
    """Return the square root, which keeps dominance, but reduces the crowding distance of bad candidates."""
    return math.sqrt(max(quality, 0.0))
