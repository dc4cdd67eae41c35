"""The options of tas."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparsesearch.config import Fraction
from sparsesearch.config.base import Finite
from sparsesearch.searchers.learned.base import (
    LearnedSearcher,
    TrainedWeights,
    WeightSteps,
)


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
