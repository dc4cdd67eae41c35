"""The options of oto."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sparsesearch.config import Fraction
from sparsesearch.searchers.learned.base import (
    ELEMENTS,
    LearnedSearcher,
    NoWeightSteps,
)


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
