"""The base of searches by gradient: options that all share, and the sizes that are learned.

Genomes that were learned arrive as seeds of generation 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from sparsesearch.config import Fraction
from sparsesearch.config.base import LARGEST, MANY, Finite
from sparsesearch.errors import InputError, problem
from sparsesearch.searchers.base import Searcher, Traits
from sparsesearch.searchers.records import Proposal
from sparsesearch.space import KINDS, Limit, Space
from sparsesearch.space.unit import CUT_KINDS

# Sizes that are learned if neither the options nor the space has limits, as shares of the first cost.
SIZES = ("80%", "60%", "40%")
ELEMENTS = tuple(kind for kind in CUT_KINDS if kind != "kernel")
SUBLAYERS = tuple(kind for kind in KINDS if kind.startswith("drop_"))

LearningRate = Annotated[
    Finite,
    Field(
        gt=0,
        description="Learning rate of the parameters that decide what is pruned: gates, scores, logits, scales or "
        "thresholds.",
    ),
]
Ramp = Annotated[
    Fraction,
    Field(
        description="Share of the steps of a size over which the target falls to it, from the size before it or from "
        "dense."
    ),
]
StepSamples = Annotated[
    int | None, Field(ge=1, le=MANY, description="Samples in a step; null: as many as `training.batch`.")
]
TrainedWeights = Annotated[
    Literal["frozen", "lora", "full"],
    Field(
        description="Weights that are trained, as `training` describes: none (`frozen`), low-rank updates of all "
        "linears (`lora`), or all (`full`)."
    ),
]
WeightSteps = Annotated[
    int,
    Field(
        ge=0,
        le=MANY,
        description="Number of training steps of the weights, on samples of their own, before each step of the "
        "parameters that decide what is pruned; 0: weights that are trained take the same steps as these parameters, "
        "on all samples.",
    ),
]
Frozen = Annotated[Literal["frozen"], Field(description="Always `frozen`: no weights are trained.")]
NoWeightSteps = Annotated[Literal[0], Field(description="Always 0: weights have no steps of their own.")]


@dataclass(frozen=True)
class LearnedTraits(Traits):
    """Traits of a searcher that learns by gradient.

    Attributes:
        method: name of its method.
        targets: the space with the limits of every size that is learned, by name.
        baselines: genomes that are measured beside the learned ones.
    """

    method: str = ""
    options: LearnedSearcher.Options = field(default_factory=lambda: LearnedSearcher.Options())
    targets: Mapping[str, Space] = field(default_factory=dict)
    baselines: int = 0


class LearnedSearcher(Searcher):
    """A search by gradient, which ends by itself; its genomes are measured on all selection data."""

    class Options(Searcher.Options):
        sizes: list[str] = Field(
            [],
            description="Limits such as `params<=50%`, one for each size that is learned; []: the recipe's limits or, "
            f"without these, {', '.join(SIZES)} of the first cost.",
        )
        tokens: int | None = Field(
            None,
            ge=1,
            le=LARGEST,
            description="Gradient tokens for each size; null: an equal share of what measurements leave of "
            "`search.tokens` or, if that is null, 200 steps.",
        )
        warm: bool = Field(
            True,
            description="Begin each size with the result of the one before it, in the order of `sizes`; false: with "
            "the dense network.",
        )
        repeats: int = Field(
            1,
            ge=1,
            le=MANY,
            description="Number of times that all sizes are learned, with other seeds, on several workers if possible.",
        )
        ramp: Ramp = 0.5
        learning_rate: LearningRate = 0.05
        batch: StepSamples = None
        weights: TrainedWeights = "frozen"
        lower: WeightSteps = 0
        upper: Fraction = Field(
            0.5,
            description="Share of the training samples that is kept for the steps of the parameters that decide what "
            "is pruned, if `lower` is not 0.",
        )

        @model_validator(mode="after")
        def _something_moves(self) -> LearnedSearcher.Options:
            if self.weights == "frozen" and self.lower:
                raise ValueError("weights that are frozen take no steps of their own: lower: 0")
            return self

        @field_validator("sizes")
        @classmethod
        def _limits(cls, sizes: list[str]) -> list[str]:
            for size in sizes:
                try:
                    Limit.parse(size)
                except InputError as error:
                    raise ValueError(error.message) from None
            return sizes

    options: Options
    ends_by_itself = True
    # Name in `bilevel.base.LEARNERS`, kinds of units that can be chosen, and whether sparsity goes with the others.
    method: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = tuple(kind for kind in KINDS if kind != "kernel")
    mixes: ClassVar[bool] = False

    def check(self) -> None:
        """Raise InputError SS111 if units are of kinds that it cannot choose, SS106 if no genome has a size."""
        kinds = list(dict.fromkeys(unit.kind for unit in self.space.units))
        if unsupported := [kind for kind in kinds if kind not in self.kinds]:
            raise problem(
                "SS111",
                f"searcher {self.method} cannot choose units of kind {unsupported[0]}.",
                fix=f"It takes: {', '.join(self.kinds)}.",
            )
        if not self.mixes and "sparsity" in kinds and len(kinds) > 1:
            other = next(kind for kind in kinds if kind != "sparsity")
            raise problem(
                "SS111",
                f"searcher {self.method} learns sparsity or {other}, not both.",
                fix="Take one kind out, or use tas.",
            )
        for space in self.targets().values():
            try:
                space.check()
            except InputError as error:
                hint = f"{error.hint} The sizes to learn are in search.options.sizes."
                raise problem(error.code, error.message, fix=hint) from None

    @classmethod
    def describe(cls, space: Space, objectives: Sequence[str], options: Searcher.Options) -> LearnedTraits:
        assert isinstance(options, LearnedSearcher.Options)
        draft = cls(space, objectives, 0, options)
        return LearnedTraits(0, (), cls.method, options, draft.targets(), len(draft.starting(0)))

    def targets(self) -> dict[str, Space]:
        """Return the space with the limits of every size that is learned, by name."""
        return learning_targets(self.space, self.objectives[1], self.options.sizes)

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if index:
            return []
        return self.starting_proposals(0, 0)


def learning_targets(space: Space, cost: str, sizes: Sequence[str]) -> dict[str, Space]:
    """Return the space with the limits of every size that is learned, by name.

    Args:
        cost: the first cost objective, which default sizes are shares of.
        sizes: limits; if there are none, the space's own, or `SIZES`.
    """
    if not sizes and space.bounds:
        return {", ".join(bound.text for bound in space.bounds): space}
    sizes = sizes or [f"{cost}<={share}" for share in SIZES]
    return {size: space.with_limits([*space.limits, Limit.parse(size)]) for size in sizes}
