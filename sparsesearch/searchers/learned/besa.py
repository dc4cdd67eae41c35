"""The options of besa."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparsesearch.config.base import Finite
from sparsesearch.searchers.learned.base import (
    Frozen,
    LearnedSearcher,
    NoWeightSteps,
    StepSamples,
)


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
