"""The options of bip, and of hydra, which is bip without the implicit gradient."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sparsesearch.config.base import Finite
from sparsesearch.searchers.learned.base import (
    LearnedSearcher,
    TrainedWeights,
    WeightSteps,
)

ImplicitWeight = Annotated[
    Finite,
    Field(
        ge=0,
        description="1/γ, the weight of the hypergradient's implicit term; 0: straight-through scores, as in HYDRA.",
    ),
]


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
