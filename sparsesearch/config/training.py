"""Training of candidates, and the supernets that they may be parts of."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sparsesearch.config.base import LARGEST, MANY, Finite, Fraction, Seed, Strict, Text
from sparsesearch.config.units import Kind


class TrainingConfig(Strict):
    """How a network is trained; all candidates of a search are trained on the same data in the same order."""

    method: Literal["full", "perp", "lora", "masked_lora", "compensate"] = Field(
        "full",
        description="What is trained. `full`: all weights; `perp`: biases and norms; `lora`: low-rank updates, merged "
        "at the end, for networks without unstructured sparsity; `masked_lora`: biases, norms, and low-rank updates of "
        "the weights that are not pruned; `compensate`: no gradients, biases and batch statistics are shifted until "
        "mean outputs are the dense network's.",
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="Optimizer; `sgd` has a momentum of 0.9.")
    learning_rate: Finite = Field(1e-4, gt=0, description="Largest learning rate, which `warmup` leads to.")
    weight_decay: Finite = Field(0.0, ge=0, description="Weight decay of the optimizer.")
    schedule: Literal["cosine", "constant", "wsd"] = Field(
        "cosine",
        description="Learning rate after the warm-up: to zero along a `cosine`, `constant`, or constant with a linear "
        "fall to zero in the last fifth of the steps (`wsd`).",
    )
    warmup: Fraction = Field(0.05, description="Share of the steps in which the learning rate rises from zero.")
    batch: int = Field(8, ge=1, le=MANY, description="Samples in a step.")
    clip: Finite = Field(
        1.0, gt=0, description="Largest norm of the gradients of a step, to which larger ones are scaled down."
    )
    distill: Fraction = Field(
        1.0,
        description="Weight of the distillation from the dense network in the loss; the task's own loss has the weight "
        "1 - `distill`.",
    )
    temperature: Finite = Field(1.0, gt=0, description="Temperature of the distributions that distillation compares.")
    hidden: Finite = Field(
        0.0,
        ge=0,
        description="Weight of another term of the loss: the relative squared difference between the blocks' outputs "
        "and the dense network's.",
    )
    rank: int = Field(16, ge=1, le=MANY, description="Rank of low-rank updates.")
    alpha: Finite = Field(32.0, gt=0, description="Scale of low-rank updates: they are multiplied by alpha / rank.")
    seed: Seed = Field(0, description="Random seed of the training.")


SupernetKind = Literal["stitched", "sorted", "sandwich", "random", "random_linear", "block_local"]
SUPERNETS: dict[SupernetKind, str] = {
    "stitched": "levels of each unit, made by pruners one by one and put together from the level store",
    "sorted": "one network with elements sorted by importance, of which a candidate has the first ones; not trained",
    "sandwich": "as sorted, and trained: each step runs the largest, the narrowest and random sub-networks",
    "random": "as sorted, and trained: each step runs random sub-networks",
    "random_linear": "as random, but with a probability that rises from 0 to 1; otherwise the step runs the largest",
    "block_local": "as sorted, and trained: every block alone, at random sizes, towards the dense block's outputs",
}


class SupernetConfig(Strict):
    """The source of candidates' weights; `supernet: KIND` is short for `supernet: {kind: KIND}`."""

    kind: SupernetKind = Field("stitched", description="Kind of supernet; see `sparsesearch list supernets`.")
    tokens: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Training tokens, counted for each sub-network of a step; null: those of as many steps as take one "
        "pass over the training data.",
    )
    subnets: int = Field(
        2,
        ge=1,
        le=MANY,
        description="Random sub-networks in a step; `sandwich` runs the largest and the narrowest one too.",
    )
    sampling: Literal["uniform", "balanced", "inverse"] = Field(
        "uniform",
        description="How random sub-networks are drawn: all levels (`uniform`) or all sizes (`balanced`) are equally "
        "likely, or a level is the likelier the less it keeps (`inverse`).",
    )
    distill_from: Literal["dense", "largest"] = Field(
        "dense",
        description="Network that sub-networks are distilled from: the `dense` one, or the `largest` sub-network of "
        "the same step (`sandwich`).",
    )
    execution: Literal["sliced", "masked"] = Field(
        "sliced",
        description="How sub-networks run: with smaller tensors (`sliced`), or with zeros for the elements that they "
        "leave out (`masked`).",
    )
    weights: Literal["full", "lora"] = Field(
        "full", description="What is trained: all weights (`full`), or low-rank updates of all linears (`lora`)."
    )
    stages: list[list[Kind]] = Field(
        [],
        description="Progressive shrinking: lists of kinds of units, which become elastic one list after another, in "
        "stages of equal length; kinds that are in no list are elastic from the beginning.",
    )
    start: Text | None = Field(
        None,
        description="Trained supernet of the same network to begin with: its directory, or that of a run that has one; "
        "null: the network itself.",
    )
    training: TrainingConfig = Field(
        TrainingConfig(),
        description="How the supernet is trained; candidates are trained as the recipe's own `training` describes.",
    )

    @model_validator(mode="after")
    def _of_use(self) -> SupernetConfig:
        if not self.is_trained:
            own = {"kind", "start"}
            set_ = [n for n, f in type(self).model_fields.items() if n not in own and getattr(self, n) != f.default]
            if set_:
                raise ValueError(f"{set_[0]} is for a supernet that is trained; {self.kind} is not")
        if self.training.method != "full":
            raise ValueError("training.method is full; low-rank updates are weights: lora")
        if self.kind == "block_local" and self.training.temperature != 1:
            raise ValueError("training.temperature: block_local compares hidden states, not distributions")
        if not self.is_elastic and self.start is not None:
            raise ValueError("start is for a supernet of one network; stitched has its levels from the level store")
        if self.distill_from == "largest" and self.kind != "sandwich":
            raise ValueError(
                f"distill_from: largest is for kind sandwich, where each step runs it; not for {self.kind}"
            )
        return self

    @property
    def is_elastic(self) -> bool:
        """Whether candidates are parts of one network."""
        return self.kind != "stitched"

    @property
    def is_trained(self) -> bool:
        return self.kind not in ("stitched", "sorted")
