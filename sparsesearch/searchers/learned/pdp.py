"""The options of pdp."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparsesearch.config.base import Finite
from sparsesearch.searchers.learned.base import (
    ELEMENTS,
    LearnedSearcher,
    NoWeightSteps,
)


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
