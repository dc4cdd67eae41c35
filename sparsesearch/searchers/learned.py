"""Searches by gradient: which there are, their options, and how their genomes are measured.

What learns is in `sparsesearch.bilevel`, which knows torch; here the genomes arrive as seeds of generation 0.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from sparsesearch.config import Fraction
from sparsesearch.config.base import LARGEST, MANY, Finite
from sparsesearch.errors import InputError, problem
from sparsesearch.searchers.base import Proposal, Searcher
from sparsesearch.space import KINDS, Limit, Space
from sparsesearch.space.unit import CUT_KINDS

# Sizes that are learned where neither the options nor the space say, as shares of the first cost.
SIZES = ("80%", "60%", "40%")
ELEMENTS = tuple(kind for kind in CUT_KINDS if kind != "kernel")
SUBLAYERS = tuple(kind for kind in KINDS if kind.startswith("drop_"))


class LearnedSearcher(Searcher):
    """A search by gradient; its genomes are measured on all selection data, and it ends."""

    class Options(Searcher.Options):
        # Limits, one for each size that is learned; the space's own where there are none.
        sizes: list[str] = []
        # Gradient tokens for each size; null: what search.tokens leaves, or 200 steps.
        tokens: int | None = Field(None, ge=1, le=LARGEST)
        # Each size goes on from where the one before ended (in the order of `sizes`), else from the dense network.
        warm: bool = True
        # Learn everything so many times, with seeds of its own: side by side where there are workers.
        repeats: int = Field(1, ge=1, le=MANY)
        # Share of the steps over which the target falls from the size before to the size wanted.
        ramp: Fraction = 0.5
        # Of the choice.
        learning_rate: Finite = Field(0.05, gt=0)
        # Samples a step; null: training.batch.
        batch: int | None = Field(None, ge=1, le=MANY)
        # What moves beside the choice: nothing, low-rank updates of all linears, or all weights (`training` says how).
        weights: Literal["frozen", "lora", "full"] = "frozen"
        # Steps on weights before each step on the choice, on other data; 0: both move at once, on the same.
        lower: int = Field(0, ge=0, le=MANY)
        # Share of the training data that only the choice sees, where weights have steps of their own.
        upper: Fraction = 0.5

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
    # Name in `bilevel.registry.LEARNERS`, kinds of units that can be chosen, and whether sparsity goes with the others.
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

    def targets(self) -> dict[str, Space]:
        """The space with the limits of every size that is learned, by what to call it."""
        sizes = self.options.sizes
        if not sizes and self.space.bounds:
            return {", ".join(bound.text for bound in self.space.bounds): self.space}
        cost = self.objectives[1]
        sizes = sizes or [f"{cost}<={share}" for share in SIZES]
        own = list(self.space.limits)
        return {size: self.space.with_limits([*own, Limit.parse(size)]) for size in sizes}

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if index:
            return []
        return [Proposal(genome, 0, 0, name) for name, genome in self.starting(0).items()]


class BiPSearcher(LearnedSearcher):
    """BiP (Zhang et al., 2022): masks by the hypergradient of a bilevel problem, weights below, one global ranking."""

    class Options(LearnedSearcher.Options):
        weights: Literal["frozen", "lora", "full"] = "full"
        lower: int = Field(1, ge=0, le=MANY)
        # How far a typical gradient moves a score, in typical scores.
        learning_rate: Finite = Field(0.03, gt=0)
        # 1/γ, of the implicit term; 0 leaves the straight-through scores of HYDRA.
        gamma_inverse: Finite = Field(1e-4, ge=0)

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
        weights: Literal["frozen", "lora", "full"] = "frozen"
        lower: int = Field(0, ge=0, le=MANY)
        gamma_inverse: Finite = Field(0.0, ge=0)

    options: Options


class GatesSearcher(LearnedSearcher):
    """Hard-concrete gates (Louizos et al., 2018) with a Lagrangian on any cost, weights frozen."""

    class Options(LearnedSearcher.Options):
        # Of the two multipliers, which rise while the cost is off its target.
        multiplier_rate: Finite = Field(1.0, gt=0)
        # Where log α starts: how open gates are, and how much less those that the level store takes away first.
        start: Finite = 2.0
        prior: Finite = Field(2.0, ge=0)

    options: Options
    method = "gates"
    kinds = (*ELEMENTS, *SUBLAYERS)


class CoFiSearcher(GatesSearcher):
    """CoFi (Xia et al., 2022): hard-concrete gates with a Lagrangian, all weights move with them."""

    class Options(GatesSearcher.Options):
        weights: Literal["frozen", "lora", "full"] = "full"
        learning_rate: Finite = Field(0.05, gt=0)

    options: Options


class ShearedSearcher(GatesSearcher):
    """Sheared-LLaMA (Xia et al., 2023): as `cofi`, with faster gates, ramped over the first fifth."""

    class Options(GatesSearcher.Options):
        weights: Literal["frozen", "lora", "full"] = "full"
        learning_rate: Finite = Field(0.1, gt=0)
        ramp: Fraction = 0.2

    options: Options


class CompressoSearcher(GatesSearcher):
    """Compresso (Guo et al., 2023): hard-concrete gates beside low-rank updates of frozen weights."""

    class Options(GatesSearcher.Options):
        weights: Literal["frozen", "lora", "full"] = "lora"
        learning_rate: Finite = Field(0.1, gt=0)

    options: Options


class TASSearcher(LearnedSearcher):
    """TAS (Dong & Yang, 2019): a distribution over the levels of every unit, two Gumbel samples a step."""

    class Options(LearnedSearcher.Options):
        weights: Literal["frozen", "lora", "full"] = "full"
        lower: int = Field(1, ge=0, le=MANY)
        # Of the cost's loss, and the share of dense that a size may be missed by below.
        cost_weight: Finite = Field(2.0, ge=0)
        tolerance: Fraction = 0.05
        # Of the Gumbel softmax, from the first step to the last.
        temperature: Finite = Field(5.0, gt=0)
        last_temperature: Finite = Field(0.1, gt=0)
        # How two widths meet: zeros where the narrower has ended, or both interpolated along the channels to the wider.
        mix: Literal["masks", "interpolate"] = "masks"

    options: Options
    method = "tas"
    mixes = True


class BESASearcher(LearnedSearcher):
    """BESA (Xu et al., 2024): learnable sparsity rates over the levels of any pruner, block by block."""

    class Options(LearnedSearcher.Options):
        # The loss: outputs of each block on its own inputs, or the network's on the whole.
        loss: Literal["blocks", "network"] = "blocks"
        # What it ends as is a genome of the store.
        weights: Literal["frozen"] = "frozen"
        lower: Literal[0] = 0
        # Of the squared relative miss of the size.
        cost_weight: Finite = Field(5.0, ge=0)
        batch: int | None = Field(1, ge=1, le=MANY)

    options: Options
    method = "besa"
    kinds = ("sparsity",)


class MaskLLMSearcher(LearnedSearcher):
    """MaskLLM (Fang et al., 2024): a distribution over the patterns of every N:M group; weights frozen."""

    class Options(LearnedSearcher.Options):
        # Gumbel temperature, and scale of the logits, from the first step to the last.
        temperature: Finite = Field(4.0, gt=0)
        last_temperature: Finite = Field(0.05, gt=0)
        scale: Finite = Field(1e2, gt=0)
        last_scale: Finite = Field(5e2, gt=0)
        # How strongly the store's own masks are preferred at first.
        prior: Finite = Field(3.0, ge=0)
        # Towards keeping large weights.
        large_weights: Finite = Field(1e-5, ge=0)
        learning_rate: Finite = Field(5e-4, gt=0)
        weights: Literal["frozen"] = "frozen"
        lower: Literal[0] = 0

        @field_validator("sizes")
        @classmethod
        def _none(cls, sizes: list[str]) -> list[str]:
            if sizes:
                raise ValueError("the pattern is the size: leave sizes out")
            return sizes

    options: Options
    method = "maskllm"
    kinds = ("sparsity",)

    def targets(self) -> dict[str, Space]:
        """The pattern is the size."""
        return {"pattern": self.space}


class PDPSearcher(LearnedSearcher):
    """PDP (Cho et al., 2023): soft masks made of the weights themselves, which train until the masks harden."""

    class Options(LearnedSearcher.Options):
        # Nothing else is learned, so they cannot be frozen.
        weights: Literal["lora", "full"] = "full"
        lower: Literal[0] = 0
        # τ, in squared weights (of a group: mean squares).
        temperature: Finite = Field(1e-4, gt=0)

    options: Options
    method = "pdp"
    kinds = ("sparsity", *ELEMENTS)


class LAPPSearcher(LearnedSearcher):
    """LAPP (Zhai et al., 2023): a learnable threshold of each unit on the size of its weights, and a cost penalty."""

    class Options(LearnedSearcher.Options):
        weights: Literal["frozen", "lora", "full"] = "full"
        # Of the penalty log(cost / target), and width of the sigmoid that gradients pass.
        cost_weight: Finite = Field(1.0, ge=0)
        temperature: Finite = Field(0.1, gt=0)

    options: Options
    method = "lapp"


class OTOSearcher(LearnedSearcher):
    """OTO (Chen et al., 2023): groups that are chosen to go are pushed to zero in half-space steps, then cut."""

    class Options(LearnedSearcher.Options):
        # Steps are on weights alone; `ramp` is the share of them after which the last group is zero.
        weights: Literal["full"] = "full"
        lower: Literal[0] = 0
        # Share of the steps before groups are chosen.
        warmup: Fraction = 0.1
        # ε of the half-space: a group goes to zero once its step turns this far against it.
        half_space: float = Field(0.0, ge=0, lt=1)

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
    """Network slimming (Liu et al., 2017): a scale on every element under a regulariser; or polarized, or masked."""

    class Options(LearnedSearcher.Options):
        weights: Literal["frozen", "lora", "full"] = "full"
        learning_rate: Finite = Field(0.01, gt=0)
        # The mean scale; t |scale| less its distance from the mean; or the mean scale of what weights say will go.
        regulariser: Literal["l1", "polarization", "mask"] = "polarization"
        strength: Finite = Field(1.0, ge=0)
        # Polarization's t: the larger, the more goes to zero.
        tilt: Finite = Field(1.2, gt=0)

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
