"""Units, the places where a search may prune a network, and the pruners that make their levels."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from sparsesearch.config.base import LARGEST, MOST_LEVELS, Finite, Fraction, Seed, Strict, Text
from sparsesearch.space.unit import Kind as Kind


class Grid(Strict):
    """Sparsity levels at equal numbers of weights around a centre, as EvoPress builds them."""

    around: Fraction = Field(description="Sparsity s of the level in the middle.")
    radius: int = Field(8, ge=1, le=100, description="Number of levels on each side of it.")
    step: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Weights between two levels; null: EvoPress's 0.5 * min(s, 1 - s) / radius * hidden_size^2.",
    )


# The export form nemotron_nas can only express FFN widths that are multiples of this.
NEMOTRON_NAS_WIDTH = 256


def _multiple(value: Any) -> Any:
    if value != "nemotron_nas" and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST):
        raise ValueError("align is a number of elements, at least 1, or nemotron_nas")
    return value


Align = Annotated[
    int | Literal["nemotron_nas"],
    BeforeValidator(_multiple),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": LARGEST}, {"const": "nemotron_nas"}]}),
]

Levels = (
    Annotated[int, Field(ge=1, le=MOST_LEVELS)]
    | Annotated[list[Fraction], Field(min_length=1, max_length=MOST_LEVELS)]
    | Grid
)


class UnitConfig(Strict):
    """One family of units: a kind, which modules, and their levels."""

    kind: Kind = Field(
        description="What the units prune: single weights (`sparsity`), neurons, heads, experts, channels or kernels, "
        "or whole sublayers (`drop_attention`, `drop_ffn`)."
    )
    target: Text = Field(
        "*",
        description="Which modules become units: a pattern with `*` and `?` that the module's name, or the end of it "
        "after a dot, matches; `*`: all that the kind applies to.",
    )
    levels: Levels | None = Field(
        None,
        description="How many levels; or a list of sparsities (for `sparsity`) or of fractions kept; or, for "
        "`sparsity`, a grid. null: 16 levels for `sparsity`, 8 for `ffn_width`, `expert_width` and `channels`, every "
        "number of elements down to `min_kept` for `kv_groups`, `q_heads`, `experts` and `kernel`.",
    )
    max_sparsity: Fraction = Field(
        0.95, description="Largest sparsity, for `sparsity` if `levels` is not a list or a grid."
    )
    min_kept: Fraction = Field(
        0.25, description="Smallest fraction of elements kept, for widths if `levels` is not a list."
    )
    align: Align = Field(
        1,
        description="Widths are multiples of this number of elements; `nemotron_nas` (`ffn_width` of Llama): of "
        f"{NEMOTRON_NAS_WIDTH}, with fractions rounded to the nearest width that this export form can express.",
    )
    protect: list[int] = Field(
        [], description="Numbers of blocks that are not pruned, from 0; negative ones count from the end, from -1."
    )

    @model_validator(mode="after")
    def _for_widths(self) -> UnitConfig:
        if self.align == "nemotron_nas" and self.kind != "ffn_width":
            raise ValueError(f"align: nemotron_nas is for kind ffn_width, not for {self.kind}")
        return self

    @property
    def multiple(self) -> int:
        """The number of elements of which widths are multiples."""
        return NEMOTRON_NAS_WIDTH if self.align == "nemotron_nas" else self.align


_N_OF_M = "([1-9][0-9]{0,8}):([1-9][0-9]{0,8})"


def _n_of_m(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value // 60}:{value % 60}"  # YAML 1.1 reads a plain 2:4 as a number of base 60.
    match = re.fullmatch(_N_OF_M, str(value))
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError('a pattern is "N:M", N of M adjacent weights are kept, N < M, such as "2:4"')
    return value


Pattern = Annotated[str, BeforeValidator(_n_of_m), WithJsonSchema({"type": "string", "pattern": f"^{_N_OF_M}$"})]


class PrunerConfig(Strict):
    """How the levels of units are made."""

    sparsity: Text = Field("sparsegpt", description="Pruner of `sparsity` units; see `sparsesearch list pruners`.")
    width: Text = Field(
        "obs",
        description="Pruner of `ffn_width`, `kv_groups`, `q_heads`, `expert_width` and `channels` units; see "
        "`sparsesearch list pruners`.",
    )
    experts: Text = Field("reap", description="Pruner of `experts` units; see `sparsesearch list pruners`.")
    damp: Finite = Field(
        0.01,
        gt=0,
        le=1,
        description="Damping of the inputs' second moments before they are inverted (sparsegpt, obs, `refit`), as a "
        "share of their mean diagonal.",
    )
    pattern: Pattern | None = Field(
        None,
        description='Keep N of every M adjacent weights of a row, written "N:M" as in "2:4", which leaves `sparsity` '
        "units one pruned level; null: any positions.",
    )
    polish: Literal["dsnot"] | None = Field(
        None,
        description="`dsnot`: swap kept and pruned weights until each row's mean output is right, after sparsity "
        "pruners that keep values; null: do not.",
    )
    refit: bool = Field(
        False,
        description="Refit the weights that stay by least squares, after width pruners that keep values; obs always "
        "does.",
    )
    compensate: bool = Field(
        False,
        description="Add (W - pruned W) E[x] to the bias of every pruned matrix W, which preserves its mean output; "
        "matrices without a bias get one.",
    )
    alpha: Finite = Field(
        25.0,
        ge=0,
        description="Weight of the gradients in the score of gblm; 25 corresponds to the published 100 at 128 samples "
        "of 2048 tokens.",
    )
    order: Literal[1, 2] = Field(
        1, description="Order of the score of taylor, for weight w and gradient g: 1 for |w g|, 2 for w² g²."
    )
    seed: Seed = Field(0, description="Random seed of the pruner `random`.")
    propagate: Literal["dense", "sequential", "expectation"] = Field(
        "dense",
        description="Blocks that a block's calibration inputs have passed through: the `dense` ones before it, the "
        "same pruned at the middle level (`sequential`), or with the expectation of their weights over all levels "
        "(`expectation`).",
    )
