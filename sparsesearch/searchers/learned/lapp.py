"""The options of lapp."""

from __future__ import annotations

from pydantic import Field

from sparsesearch.config.base import Finite
from sparsesearch.searchers.learned.base import (
    LearnedSearcher,
    TrainedWeights,
)


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
