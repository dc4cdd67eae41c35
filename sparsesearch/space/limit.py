"""Limits: bounds on costs, as `params<=60%`, `nonzeros<=1.2M`, `kv_bytes<=3MiB`, `latency_ms<=4.5`, `sparsity>=70%`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from sparsesearch.errors import printable, problem
from sparsesearch.space.cost import COSTS

_SCALE = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "B": 10**9,
    "T": 10**12,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
}
_MAX_CHARACTERS = 200
# Costs have 64 bits.
_MAX_BOUND = 10**18
# Other names of costs: the cost that each stands for, and its units in one of this one.
_ALIASES = {"latency_ms": ("latency_ns", 10**6)}
_PATTERN = re.compile(r"\s*([a-z_]+)\s*(<=|>=)\s*([0-9.]+(?:e[0-9]{1,2})?)\s*(%|[A-Za-z]*)\s*", re.ASCII)


@dataclass(frozen=True)
class Limit:
    """A limit as written.

    Attributes:
        text: what the user wrote, without spaces.
        cost: a name in `COSTS`, or `sparsity` (fraction of zeros or removed weights in matrices the space can prune).
        value: the bound; a fraction of the dense model if `relative`.
        relative: whether the bound is a fraction, in [0, 1].
    """

    text: str
    cost: str
    value: Fraction
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Parse `COST<=NUMBER[%|K|M|B|MB|MiB]` or `sparsity>=PERCENT%`; raises InputError SS102 or SS105."""
        match = _PATTERN.fullmatch(text) if len(text) <= _MAX_CHARACTERS else None
        if match is None:
            shown = printable(text, 120)
            raise problem("SS105", f"limit {shown!r} is not of the form params<=60% or nonzeros<=1.2M.")
        cost, sign, number, unit = match.groups()
        cost, scale = _ALIASES.get(cost, (cost, 1))
        if cost not in (*COSTS, "sparsity"):
            names = (*COSTS, *_ALIASES, "sparsity")
            raise problem("SS102", f"limit {text!r}: unknown cost.", got=cost, allowed=names)
        if sign != (">=" if cost == "sparsity" else "<="):
            raise problem("SS105", f"limit {text!r}: write sparsity>=70%, and <= for every other cost.")
        try:
            value = Fraction(number)
        except ValueError:
            raise problem("SS105", f"limit {text!r}: {number!r} is not a number.") from None
        compact = re.sub(r"\s", "", text)
        if unit == "%" or cost == "sparsity":
            value = value / 100 if unit == "%" else value
            if not 0 <= value <= 1:
                hint = 'For percent write "50%".' if cost == "sparsity" else "Percentages are of the dense model."
                raise problem("SS105", f"limit {text!r}: {number}{unit} is outside [0, 1].", fix=hint)
            return cls(compact, cost, value, relative=True)
        allowed = [u for u in _SCALE if cost.endswith("bytes") or len(u) < 2]
        if unit.upper() not in allowed:
            hint = f"Use %, {', '.join(u.replace('IB', 'iB') for u in allowed if u)}."
            raise problem("SS105", f"limit {text!r}: {unit!r} is no unit of {cost}.", fix=hint)
        value *= scale * _SCALE[unit.upper()]
        if value > _MAX_BOUND:
            raise problem("SS105", f"limit {text!r} is larger than {_MAX_BOUND:.0e}.", fix="Write a smaller number.")
        return cls(compact, cost, value, relative=False)

    def bound(self, dense: dict[str, int], prunable: int) -> Bound:
        """Return the integer bound that a candidate must not exceed; raises InputError SS102 for an unmeasured cost.

        Args:
            dense: costs of the dense model by name.
            prunable: weights of the dense model that the space can prune, the base of `sparsity`.
        """
        if self.cost == "sparsity":
            return Bound(self.text, "prunable_nonzeros", prunable - math.ceil(self.value * prunable))
        if self.cost not in dense:
            raise problem(
                "SS102",
                f"limit {self.text!r}: {self.cost} was not measured here.",
                fix="It is measured if objectives or limits of the run name it, or if latency.table is set.",
            )
        maximum = math.floor(self.value * dense[self.cost] if self.relative else self.value)
        return Bound(self.text, self.cost, maximum)


@dataclass(frozen=True)
class Bound:
    """A bound in counts: `cost` of a candidate must be at most `maximum`; `text` is the limit that it was made from."""

    text: str
    cost: str
    maximum: int
