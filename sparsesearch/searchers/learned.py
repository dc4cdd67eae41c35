"""Searches by gradient: their names, their options, and how their genomes are measured.

The learning itself is in `sparsesearch.bilevel`, which imports torch; its genomes arrive here as seeds of generation 0.
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
        description="Steps on weights, on other data, before each step on what is pruned; 0: all take the same steps.",
    ),
]
Frozen = Annotated[Literal["frozen"], Field(description="Always `frozen`: no weights are trained.")]
NoWeightSteps = Annotated[Literal[0], Field(description="Always 0: weights have no steps of their own.")]
ImplicitWeight = Annotated[
    Finite,
    Field(
        ge=0,
        description="1/γ, the weight of the hypergradient's implicit term; 0: straight-through scores, as in HYDRA.",
    ),
]


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
            description="Share of the training data that is kept for the steps on what is pruned, if `lower` is not 0.",
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


class BiPSearcher(LearnedSearcher):
    """BiP (Zhang et al., 2022): masks by the hypergradient of a bilevel problem, weights trained below, one ranking."""

    class Options(LearnedSearcher.Options):
        weights: TrainedWeights = "full"
        lower: WeightSteps = 1
        learning_rate: Finite = Field(
            0.03, gt=0, description="How far a typical gradient moves a score, in units of a typical score."
        )
        gamma_inverse: ImplicitWeight = 1e-4

        @model_validator(mode="after")
        def _levels(self) -> BiPSearcher.Options:
            if self.weights != "frozen" and not self.lower:
                raise ValueError("weights that move need steps of their own: lower >= 1, or weights: frozen")
            return self

    options: Options
    method = "bip"


class HydraSearcher(BiPSearcher):
    """HYDRA (Sehwag et al., 2020): straight-through scores on frozen weights; with lottery jackpots, BiP's 1/γ = 0."""

    class Options(BiPSearcher.Options):
        weights: TrainedWeights = "frozen"
        lower: WeightSteps = 0
        gamma_inverse: ImplicitWeight = 0.0

    options: Options


class GatesSearcher(LearnedSearcher):
    """Hard-concrete gates (Louizos et al., 2018) with a Lagrangian on any cost, weights frozen."""

    class Options(LearnedSearcher.Options):
        multiplier_rate: Finite = Field(
            1.0, gt=0, description="Learning rate of the two multipliers, which rise while the cost is off its target."
        )
        start: Finite = Field(2.0, description="Mean of log α of the gates at first; the higher, the more open.")
        prior: Finite = Field(
            2.0,
            ge=0,
            description="How much log α is above `start` at first for the element that the level store removes last, "
            "and below for the one that it removes first; evenly in between.",
        )

    options: Options
    method = "gates"
    kinds = (*ELEMENTS, *SUBLAYERS)


class CoFiSearcher(GatesSearcher):
    """CoFi (Xia et al., 2022): hard-concrete gates with a Lagrangian, all weights trained with them."""

    class Options(GatesSearcher.Options):
        weights: TrainedWeights = "full"
        learning_rate: LearningRate = 0.05

    options: Options


class ShearedSearcher(GatesSearcher):
    """Sheared-LLaMA (Xia et al., 2023): as `cofi`, with a higher rate of the gates and a ramp over the first fifth."""

    class Options(GatesSearcher.Options):
        weights: TrainedWeights = "full"
        learning_rate: LearningRate = 0.1
        ramp: Ramp = 0.2

    options: Options


class CompressoSearcher(GatesSearcher):
    """Compresso (Guo et al., 2023): hard-concrete gates beside low-rank updates of frozen weights."""

    class Options(GatesSearcher.Options):
        weights: TrainedWeights = "lora"
        learning_rate: LearningRate = 0.1

    options: Options


class TASSearcher(LearnedSearcher):
    """TAS (Dong & Yang, 2019): a distribution over the levels of every unit, two Gumbel samples a step."""

    class Options(LearnedSearcher.Options):
        weights: TrainedWeights = "full"
        lower: WeightSteps = 1
        cost_weight: Finite = Field(2.0, ge=0, description="Weight of the loss on the expected cost.")
        tolerance: Fraction = Field(
            0.05,
            description="How far the cost may be below its target, as a share of dense, before the loss on the cost "
            "raises it.",
        )
        temperature: Finite = Field(5.0, gt=0, description="Temperature of the Gumbel softmax at the first step.")
        last_temperature: Finite = Field(0.1, gt=0, description="Temperature of the Gumbel softmax at the last step.")
        mix: Literal["masks", "interpolate"] = Field(
            "masks",
            description="How two widths are averaged: the narrower one is filled up with zeros (`masks`), or both are "
            "interpolated along the channels to the wider one (`interpolate`).",
        )

    options: Options
    method = "tas"
    mixes = True


class BESASearcher(LearnedSearcher):
    """BESA (Xu et al., 2024): learnable sparsity rates over the levels of any pruner, block by block."""

    class Options(LearnedSearcher.Options):
        loss: Literal["blocks", "network"] = Field(
            "blocks",
            description="Loss: the error of each block's outputs on its own inputs (`blocks`), or that of the whole "
            "network (`network`).",
        )
        weights: Frozen = "frozen"
        lower: NoWeightSteps = 0
        cost_weight: Finite = Field(
            5.0, ge=0, description="Weight of the squared relative distance of the size from its target."
        )
        batch: StepSamples = 1

    options: Options
    method = "besa"
    kinds = ("sparsity",)


class MaskLLMSearcher(LearnedSearcher):
    """MaskLLM (Fang et al., 2024): a distribution over the patterns of every N:M group; weights frozen."""

    class Options(LearnedSearcher.Options):
        sizes: list[str] = Field([], description="Always empty: the pattern is the size.")
        temperature: Finite = Field(4.0, gt=0, description="Temperature of the Gumbel softmax at the first step.")
        last_temperature: Finite = Field(0.05, gt=0, description="Temperature of the Gumbel softmax at the last step.")
        scale: Finite = Field(1e2, gt=0, description="Factor of the logits at the first step.")
        last_scale: Finite = Field(5e2, gt=0, description="Factor of the logits at the last step.")
        prior: Finite = Field(
            3.0,
            ge=0,
            description="How strongly patterns that agree with the level store's masks are preferred at first, in "
            "standard deviations of the random logits for each weight that both keep.",
        )
        large_weights: Finite = Field(
            1e-5,
            ge=0,
            description="Weight of the sum of the squared weights that the masks keep, by which the loss is lowered; "
            "it falls to 0 at the last step.",
        )
        learning_rate: LearningRate = 5e-4
        weights: Frozen = "frozen"
        lower: NoWeightSteps = 0

        @field_validator("sizes")
        @classmethod
        def _none(cls, sizes: list[str]) -> list[str]:
            if sizes:
                raise ValueError("the pattern is the size: leave sizes out")
            return sizes

    options: Options
    method = "maskllm"
    kinds = ("sparsity",)

    @classmethod
    def describe(cls, space: Space, objectives: Sequence[str], options: Searcher.Options) -> LearnedTraits:
        assert isinstance(options, LearnedSearcher.Options)
        draft = cls(space, objectives, 0, options)
        return LearnedTraits(0, (), cls.method, options, draft.targets(), len(draft.starting(0)))

    def targets(self) -> dict[str, Space]:
        """The pattern is the size."""
        return {"pattern": self.space}


class PDPSearcher(LearnedSearcher):
    """PDP (Cho et al., 2023): soft masks made of the weights themselves, which train until the masks harden."""

    class Options(LearnedSearcher.Options):
        weights: Literal["lora", "full"] = Field(
            "full",
            description="Weights that are trained: low-rank updates of all linears (`lora`), or all (`full`); not "
            "frozen, since nothing else is learned.",
        )
        lower: NoWeightSteps = 0
        temperature: Finite = Field(
            1e-4,
            gt=0,
            description="τ of the soft masks, in squared weights; for widths, in mean squares of an element's weights, "
            "relative to their mean over its unit.",
        )

    options: Options
    method = "pdp"
    kinds = ("sparsity", *ELEMENTS)


class LAPPSearcher(LearnedSearcher):
    """LAPP (Zhai et al., 2023): a learnable threshold of each unit on the size of its weights, and a cost penalty."""

    class Options(LearnedSearcher.Options):
        weights: TrainedWeights = "full"
        cost_weight: Finite = Field(
            1.0, ge=0, description="Weight of the penalty log(cost / target) on a cost above its target."
        )
        temperature: Finite = Field(
            0.1, gt=0, description="Width of the sigmoid that gradients of the thresholds pass through."
        )

    options: Options
    method = "lapp"


class OTOSearcher(LearnedSearcher):
    """OTO (Chen et al., 2023): the groups to remove are pushed to zero in half-space steps, then cut."""

    class Options(LearnedSearcher.Options):
        ramp: Fraction = Field(
            0.5, description="Share of the steps of a size after which the last of its groups is zero."
        )
        weights: Literal["full"] = Field("full", description="Always `full`: the steps are on weights alone.")
        lower: NoWeightSteps = 0
        warmup: Fraction = Field(
            0.1, description="Share of the steps, below `ramp`, before the groups to remove are chosen."
        )
        half_space: float = Field(
            0.0,
            ge=0,
            lt=1,
            description="ε of the half-space of the weights x of a group to remove: it becomes zero at a step to x' "
            "with `<x', x> < ε |x|²`.",
        )

        @model_validator(mode="after")
        def _chosen_before_the_end(self) -> OTOSearcher.Options:
            if self.warmup >= self.ramp:
                raise ValueError("groups are chosen before the ramp ends: warmup < ramp")
            return self

    options: Options
    method = "oto"
    # A router row that is pushed to zero with its expert could be chosen more often.
    kinds = tuple(kind for kind in ELEMENTS if kind != "experts")


class SlimmingSearcher(LearnedSearcher):
    """Network slimming (Liu et al., 2017): a scale on every element, under an L1, polarization or mask regulariser."""

    class Options(LearnedSearcher.Options):
        weights: TrainedWeights = "full"
        learning_rate: LearningRate = 0.01
        regulariser: Literal["l1", "polarization", "mask"] = Field(
            "polarization",
            description="Mean that is added to the loss: of |scale| (`l1`), of t |scale| less the scale's distance "
            "from the mean (`polarization`), or of |scale| of the elements whose weights are smallest (`mask`).",
        )
        strength: Finite = Field(1.0, ge=0, description="Weight of the regulariser, to which it rises over the ramp.")
        tilt: Finite = Field(
            1.2, gt=0, description="t of the polarization regulariser: the larger, the more scales go to zero."
        )

    options: Options
    method = "slimming"
    kinds = ("sparsity", *ELEMENTS)


LEARNED: dict[str, type[LearnedSearcher]] = {
    "bip": BiPSearcher,
    "hydra": HydraSearcher,
    "gates": GatesSearcher,
    "cofi": CoFiSearcher,
    "sheared": ShearedSearcher,
    "compresso": CompressoSearcher,
    "tas": TASSearcher,
    "besa": BESASearcher,
    "maskllm": MaskLLMSearcher,
    "pdp": PDPSearcher,
    "lapp": LAPPSearcher,
    "oto": OTOSearcher,
    "slimming": SlimmingSearcher,
}
