"""The options of slimming."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparsesearch.config.base import Finite
from sparsesearch.searchers.learned.base import (
    ELEMENTS,
    LearnedSearcher,
    LearningRate,
    TrainedWeights,
)


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
