"""The options of maskllm."""

from __future__ import annotations

from pydantic import Field, field_validator

from sparsesearch.config.base import Finite
from sparsesearch.searchers.learned.base import (
    Frozen,
    LearnedSearcher,
    LearningRate,
    NoWeightSteps,
)
from sparsesearch.space import Space


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

    def targets(self) -> dict[str, Space]:
        """Return the space under the name `pattern`, since the pattern is the size."""
        return {"pattern": self.space}
