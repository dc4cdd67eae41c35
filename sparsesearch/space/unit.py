"""A unit: one place in the model where a choice is made, and its levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "sparsity",
    "ffn_width",
    "kv_groups",
    "q_heads",
    "experts",
    "expert_width",
    "channels",
    "kernel",
    "drop_attention",
    "drop_ffn",
]
KINDS: dict[Kind, str] = {
    "sparsity": "unstructured sparsity of one weight matrix; a level is the number of weights kept",
    "ffn_width": "width of one feed-forward sublayer; a level is the number of neurons kept",
    "kv_groups": "KV groups of one attention (its keys, values and all their queries); a level is the groups kept",
    "q_heads": "query heads of one attention, equally many in every KV group; a level is the number that each keeps",
    "experts": "experts of one mixture-of-experts layer, of each routing group; a level is the number kept",
    "expert_width": "width of all experts of one layer; a level is the number of neurons that each expert keeps",
    "channels": "channels that go together through a traced network; a level is the number kept",
    "kernel": "kernel of one convolution, of 5 or more taps a side; a level is the rings of taps around the middle",
    "drop_attention": "one attention sublayer, kept (1) or dropped (0)",
    "drop_ffn": "one feed-forward sublayer, kept (1) or dropped (0)",
}
# Kinds whose levels remove complete neurons, heads or experts, so that tensors shrink.
CUT_KINDS = ("ffn_width", "kv_groups", "q_heads", "experts", "expert_width", "channels", "kernel")


@dataclass(frozen=True)
class Unit:
    """A place in the model where one of several levels is chosen.

    Attributes:
        module: dotted path of the module.
        kind: one of `KINDS`.
        block: index of the transformer block, from 0.
        total: elements of the dense module: weights, neurons, KV groups, experts, or 1.
        levels: elements kept at each level, strictly decreasing; level 0 is dense (`levels[0] == total`).
    """

    module: str
    kind: str
    block: int
    total: int
    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unit {self.module}: kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if not self.levels or self.levels[0] != self.total:
            raise ValueError(f"unit {self.name}: level 0 must keep all {self.total} elements, got {self.levels[:1]}")
        if any(a <= b for a, b in zip(self.levels, self.levels[1:], strict=False)) or self.levels[-1] < 0:
            raise ValueError(f"unit {self.name}: levels must decrease strictly and stay >= 0, got {self.levels}")

    @property
    def name(self) -> str:
        """`MODULE.KIND`, unique in a space."""
        return f"{self.module}.{self.kind}"

    @property
    def is_drop(self) -> bool:
        """Whether it drops a sublayer."""
        return self.kind in ("drop_attention", "drop_ffn")

    @property
    def is_cut(self) -> bool:
        """Whether its levels remove complete elements, so that tensors shrink."""
        return self.kind in CUT_KINDS

    def removed_fraction(self, level: int) -> float:
        """Return the fraction of the elements that a level removes, in [0, 1]."""
        return 1.0 - self.levels[level] / self.total
