"""What a search may change of a network, and how the levels of it are made."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sparsesearch.config.base import LARGEST, MOST_LEVELS, Finite, Fraction, Seed, Strict, Text
from sparsesearch.space.unit import Kind as Kind


class Grid(Strict):
    """Sparsity levels at equal numbers of weights around a centre, as EvoPress builds them."""

    around: Fraction
    radius: int = Field(8, ge=1, le=100)
    # Weights between two levels; None is EvoPress's default, 0.5 * min(s, 1 - s) / radius * hidden_size^2.
    step: int | None = Field(None, ge=1, le=LARGEST)


# FFN widths that the export form nemotron_nas can say are multiples of this.
NEMOTRON_NAS_WIDTH = 256


def _multiple(value: Any) -> Any:
    if value != "nemotron_nas" and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST):
        raise ValueError("align is a number of elements, at least 1, or nemotron_nas")
    return value


Align = Annotated[int | Literal["nemotron_nas"], BeforeValidator(_multiple)]


Levels = (
    Annotated[int, Field(ge=1, le=MOST_LEVELS)]
    | Annotated[list[Fraction], Field(min_length=1, max_length=MOST_LEVELS)]
    | Grid
)


class UnitConfig(Strict):
    """One family of units: a kind, which modules, and their levels."""

    kind: Kind
    target: Text = "*"
    # sparsity: how many levels, or sparsities, or a grid. Widths and groups: how many levels, or fractions kept.
    levels: Levels | None = None
    # With a number of levels: the largest sparsity, and the smallest fraction kept.
    max_sparsity: Fraction = 0.95
    min_kept: Fraction = 0.25
    # Widths in multiples of this; nemotron_nas (ffn_width of Llama): the nearest widths that this export form can say.
    align: Align = 1
    # Blocks that stay as they are; negative numbers count from the end.
    protect: list[int] = []

    @model_validator(mode="after")
    def _for_widths(self) -> UnitConfig:
        if self.align == "nemotron_nas" and self.kind != "ffn_width":
            raise ValueError(f"align: nemotron_nas is for kind ffn_width, not for {self.kind}")
        return self

    @property
    def multiple(self) -> int:
        """What `align` asks for, in elements."""
        return NEMOTRON_NAS_WIDTH if self.align == "nemotron_nas" else self.align


def _n_of_m(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value // 60}:{value % 60}"  # YAML 1.1 reads a plain 2:4 as a number of base 60.
    match = re.fullmatch(r"([1-9][0-9]{0,8}):([1-9][0-9]{0,8})", str(value))
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError('a pattern is "N:M", N of M adjacent weights are kept, N < M, such as "2:4"')
    return value


Pattern = Annotated[str, BeforeValidator(_n_of_m)]


class PrunerConfig(Strict):
    """How the levels are made."""

    sparsity: Text = "sparsegpt"
    width: Text = "obs"
    experts: Text = "reap"
    damp: Finite = Field(0.01, gt=0, le=1)
    # Sparsity: keep N of every M adjacent weights of a row, which leaves one pruned level.
    pattern: Pattern | None = None
    # Sparsity, pruners that keep values: swap weights until each row's mean output is right.
    polish: Literal["dsnot"] | None = None
    # Width, pruners that keep values: refit what stays by least squares, as obs always does.
    refit: bool = False
    # Add (W - pruned W) E[x] to the bias of every pruned matrix, so that mean outputs stay; matrices without get one.
    compensate: bool = False
    # gblm: weight of the gradients; 25 is the published 100 at 128 samples of 2048 tokens.
    alpha: Finite = Field(25.0, ge=0)
    # taylor: first order |w g| or second order w² g².
    order: Literal[1, 2] = 1
    # random.
    seed: Seed = 0
    # What the calibration inputs of a block have passed through: the dense blocks before it, the same pruned at the
    # middle level, or at the expectation over all levels.
    propagate: Literal["dense", "sequential", "expectation"] = "dense"
