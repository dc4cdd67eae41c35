"""The options of gates and of its presets cofi, sheared and compresso."""

from __future__ import annotations

from pydantic import Field

from sparsesearch.config.base import Finite
from sparsesearch.searchers.learned.base import (
    ELEMENTS,
    SUBLAYERS,
    LearnedSearcher,
    LearningRate,
    Ramp,
    TrainedWeights,
)


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
