"""(1+λ) evolution under limits, with multi-stage selection; `evopress` and `darwin` follow the papers' schedules.

EvoPress (Sieberling et al., ICML 2025, arXiv 2410.14649): each generation mutates one parent λ times by level switches
and selects in stages, fewer survivors on more tokens each; the parent competes again in the last stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from sparsesearch.config.base import LARGEST, MANY
from sparsesearch.errors import problem
from sparsesearch.searchers.base import Searcher, Seeds, rank
from sparsesearch.searchers.evolutionary.operators import switch
from sparsesearch.searchers.evolutionary.racing import losers, rungs
from sparsesearch.searchers.option_types import Offspring
from sparsesearch.searchers.records import Evaluation, Proposal
from sparsesearch.space import Genome, Space

Count = Annotated[int, Field(ge=1, le=MANY)]
Tokens = Annotated[int, Field(ge=1, le=LARGEST)]
Survivors = Annotated[
    list[Count],
    Field(description="Candidates left after each stage of selection; the last stage leaves one, the next parent."),
]
StageTokens = Annotated[list[Tokens], Field(description="Selection tokens of a candidate at each stage.")]
MaxSwitches = Annotated[
    int,
    Field(
        ge=1,
        le=MANY,
        description="Largest number of level switches in a mutation, which draws two numbers from 1 to this and makes "
        "the smaller one.",
    ),
]
Generations = Annotated[
    int | None,
    Field(ge=1, le=LARGEST, description="Number of generations; null: until the budget of the search ends it."),
]


class EvolutionSearcher(Searcher):
    """(1+λ) level switching with multi-stage selection; minimises the quality alone, at the limits."""

    class Options(Searcher.Options):
        offspring: Offspring = 16
        survivors: Survivors = [2, 1]
        tokens: StageTokens = [2048, 8192]
        race: float = Field(
            0,
            ge=0,
            lt=1,
            description="Confidence, such as 0.9, at which a child is dropped because it is worse than the best on the "
            "same sequences; the tokens of the stages then double from the first to the last of `tokens`, and "
            "`survivors` has no effect. 0: no race.",
        )
        max_switches: MaxSwitches = 3
        generations: Generations = None

        @model_validator(mode="after")
        def _stages(self) -> Self:
            if len(self.survivors) != len(self.tokens) or self.survivors[-1:] != [1]:
                raise ValueError("survivors and tokens need one entry a stage, and the last stage leaves one survivor")
            return self

    options: Options
    screens = True

    def __init__(
        self, space: Space, objectives: Sequence[str], seed: int, options: Searcher.Options, seeds: Seeds | None = None
    ) -> None:
        super().__init__(space, objectives, seed, options, seeds)
        self.ends_by_itself = self.options.generations is not None
        self.parents: list[Genome] = []
        self._candidates: list[Genome] = []
        self._stage = self._draw = 0

    def check(self) -> None:
        if not self.space.bounds:
            raise problem(
                "SS106",
                "this searcher minimises quality at a limit, and the recipe has none.",
                fix="Give limits such as 'nonzeros<=30%' (--limit), or use the searcher nsga2.",
            )

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        tokens = self._rungs()
        if not self.parents:
            return self.starting_proposals(0, tokens[-1])
        if self._stage == 0:
            if self.options.generations is not None and len(self.parents) > self.options.generations:
                return []
            options = self.options
            count = self.children_to_generate(options.offspring)
            children = [switch(self.space, self.parents[-1], rng, options.max_switches) for _ in range(count)]
            self._candidates = self.screen_children(children, (), rng)
            self._draw = index
        if (self.options.race or self._stage == len(tokens) - 1) and self.parents[-1] not in self._candidates:
            self._candidates.append(self.parents[-1])
        # New sequences at every stage, as in the paper; a race continues on the same ones.
        draw, trained = self._draw if self.options.race else index, (self.training or [0] * len(tokens))[self._stage]
        parents = () if self._stage else (self.parents[-1],)
        return [
            Proposal(genome, tokens[self._stage], draw, "mutation", trained, () if genome in parents else parents)
            for genome in self._candidates
        ]

    def _rungs(self) -> list[int]:
        tokens = self.options.tokens
        return rungs(tokens[0], tokens[-1]) if self.options.race else tokens

    def learn(self, evaluations: list[Evaluation]) -> None:
        ordered = sorted(evaluations, key=rank)
        if not self.parents:
            feasible = [e for e in ordered if self.space.feasible(e.genome)]
            # Without a feasible uniform genome, the smallest one is the start.
            start = feasible[0].genome if feasible else self.space.smallest
            self.parents.append(start)
            return
        survivors = self._race(ordered) if self.options.race else ordered[: self.options.survivors[self._stage]]
        self._candidates = [e.genome for e in survivors]
        self._stage += 1
        if self._stage == len(self._rungs()) or len(survivors) == 1:
            self._stage = 0
            self.parents.append(self._candidates[0])

    def _race(self, ordered: list[Evaluation]) -> list[Evaluation]:
        """Return the evaluations of genomes that may still be the best, best first."""
        candidates = [e for e in ordered if rank(e) != float("inf")] or ordered[:1]
        losses = np.array([e.losses for e in candidates])
        lost = losers(losses, 1, self.options.race, len(self._rungs()))
        return [e for e, is_lost in zip(candidates, lost, strict=True) if not is_lost]

    def finalists(self, n: int) -> list[Genome]:
        """Return the last parents, newest first: several, since selection on small samples is noisy."""
        return list(dict.fromkeys(reversed(self.parents)))[: min(n, 4)]

    def best_within(self, space: Space) -> Genome | None:
        return next((parent for parent in reversed(self.parents) if space.feasible(parent)), None)


class EvoPressSearcher(EvolutionSearcher):
    """EvoPress's published schedule: 400 generations of 64 children, 8/2/1 survivors on 2k/16k/64k tokens."""

    class Options(EvolutionSearcher.Options):
        offspring: Offspring = 64
        survivors: Survivors = [8, 2, 1]
        tokens: StageTokens = [2048, 16384, 65536]
        generations: Generations = 400


class TyrSearcher(EvolutionSearcher):
    """Týr-the-Pruner's schedule of one round: 50 generations of 128 children, 16/4/1 survivors on 2k/16k/128k tokens.

    Li et al., NeurIPS 2025, arXiv 2503.09657; `sparsesearch refine --rounds 3` adds the finer rounds.
    """

    class Options(EvolutionSearcher.Options):
        offspring: Offspring = 128
        survivors: Survivors = [16, 4, 1]
        tokens: StageTokens = [2048, 16384, 131072]
        max_switches: MaxSwitches = 4
        generations: Generations = 50


class DarwinSearcher(EvolutionSearcher):
    """DarwinLM (Tang et al., 2025): as `evolution`, but candidates are trained a little before each comparison.

    Training-aware offspring selection, arXiv 2502.07780, section 3.3: fewer survivors are trained on more tokens, each
    time from the weights of the supernet. Training tokens count three times against the budget.
    """

    class Options(EvolutionSearcher.Options):
        survivors: Survivors = [8, 4, 2, 1]
        tokens: StageTokens = [1024, 2048, 4096, 8192]
        training: list[Tokens] = Field(
            [10_000, 50_000, 100_000, 200_000],
            description="Training tokens (images if the data are images) of a candidate before each stage, rising.",
        )
        generations: Generations = 200

        @model_validator(mode="after")
        def _trained_stages(self) -> Self:
            if len(self.training) != len(self.tokens) or self.training != sorted(self.training) or self.race:
                raise ValueError("training needs one entry a stage, rising, and there is no race")
            return self

    options: Options

    @property
    def training(self) -> list[int]:
        return self.options.training
