"""How candidates are trained, and the supernet whose parts they may be."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sparsesearch.config.base import LARGEST, MANY, Finite, Fraction, Seed, Strict, Text
from sparsesearch.config.units import Kind


class TrainingConfig(Strict):
    """How candidates are trained, in short runs and in recovery; the same data in the same order for all."""

    # All weights; biases and norms alone (PERP); low-rank updates, merged at the end (lora, of networks without
    # unstructured sparsity; masked_lora, inside the masks); or no gradients: biases and batch statistics are shifted
    # until mean outputs are the dense network's (compensate).
    method: Literal["full", "perp", "lora", "masked_lora", "compensate"] = "full"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Finite = Field(1e-4, gt=0)
    weight_decay: Finite = Field(0.0, ge=0)
    # Of the learning rate, after a share of `warmup` steps: to zero along a cosine, constant, or constant with a linear
    # fall to zero in the last fifth.
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    warmup: Fraction = 0.05
    # Samples a step.
    batch: int = Field(8, ge=1, le=MANY)
    # Largest norm of a step's gradients.
    clip: Finite = Field(1.0, gt=0)
    # Weight of the distillation from the dense network, against 1 - that of the task's own loss.
    distill: Fraction = 1.0
    temperature: Finite = Field(1.0, gt=0)
    # Weight of the relative squared difference of the blocks' outputs to the dense network's, added to the loss.
    hidden: Finite = Field(0.0, ge=0)
    # Of low-rank updates: their rank, and what they are scaled by, times the rank.
    rank: int = Field(16, ge=1, le=MANY)
    alpha: Finite = Field(32.0, gt=0)
    seed: Seed = 0


SupernetKind = Literal["stitched", "sorted", "sandwich", "random", "random_linear", "block_local"]
SUPERNETS: dict[SupernetKind, str] = {
    "stitched": "of each unit the levels that pruners made, put together from the level store",
    "sorted": "one network, elements sorted by importance, of which a candidate has the first ones",
    "sandwich": "the same, trained: the largest, the narrowest and random sub-networks each step",
    "random": "the same, trained: random sub-networks each step",
    "random_linear": "the same, trained: random sub-networks with a chance that rises along the way, else the largest",
    "block_local": "the same, trained: every block alone, at random sizes, towards the dense block's outputs",
}


class SupernetConfig(Strict):
    """Whose weights candidates have; `supernet: KIND` is short for `supernet: {kind: KIND}`."""

    # `SUPERNETS`; sparsesearch list supernets.
    kind: SupernetKind = "stitched"
    # Training tokens, those of each sub-network of a step counted; null: the training data, by one sub-network a step.
    tokens: int | None = Field(None, ge=1, le=LARGEST)
    # Random sub-networks a step; of sandwich, beside the largest and the narrowest.
    subnets: int = Field(2, ge=1, le=MANY)
    # Of random sub-networks: each level alike, sizes alike (balanced), or levels the likelier the smaller (inverse).
    sampling: Literal["uniform", "balanced", "inverse"] = "uniform"
    # What sub-networks are distilled from: the dense network, or the largest one of the same step (sandwich).
    distill_from: Literal["dense", "largest"] = "dense"
    # Sub-networks run with really smaller tensors, or with zeros for what they leave out.
    execution: Literal["sliced", "masked"] = "sliced"
    # All weights are trained, or low-rank updates of all linears.
    weights: Literal["full", "lora"] = "full"
    # Progressive shrinking: kinds that become elastic one stage after another, stages of equal length; others are from
    # the beginning.
    stages: list[list[Kind]] = []
    # A trained supernet of the same network to begin with (its directory, or that of a run that has one).
    start: Text | None = None
    # How it is trained; `training` is how candidates are.
    training: TrainingConfig = TrainingConfig()

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
