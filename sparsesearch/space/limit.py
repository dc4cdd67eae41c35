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
# Characters of a limit at most.
_LONGEST = 200
# No bound is larger: costs have 64 bits.
_LARGEST = 10**18
# How costs may be written beside their own names, and how much of that one of these is.
_WRITTEN = {"latency_ms": ("latency_ns", 10**6)}
_PATTERN = re.compile(r"\s*([a-z_]+)\s*(<=|>=)\s*([0-9.]+(?:e[0-9]{1,2})?)\s*(%|[A-Za-z]*)\s*", re.ASCII)


@dataclass(frozen=True)
class Limit:
    """A limit as written.

    Attributes:
        text: what the user wrote, without spaces.
        cost: a name in `COSTS`, or `sparsity` (fraction of zeros or removed weights in matrices the space can prune).
        value: the bound; a fraction of the dense model where `relative`.
    """

    text: str
    cost: str
    value: Fraction
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Parse `COST<=NUMBER[%|K|M|B|MB|MiB]` or `sparsity>=PERCENT%`; raises InputError SS105."""
        match = _PATTERN.fullmatch(text) if len(text) <= _LONGEST else None
        if match is None:
            shown = printable(text, 120)
            raise problem("SS105", f"limit {shown!r} is not of the form params<=60% or nonzeros<=1.2M.")
        cost, sign, number, unit = match.groups()
        cost, scale = _WRITTEN.get(cost, (cost, 1))
        if cost not in (*COSTS, "sparsity"):
            names = (*COSTS, *_WRITTEN, "sparsity")
            raise problem("SS102", f"limit {text!r}.", got=cost, allowed=names)
        if sign != (">=" if cost == "sparsity" else "<="):
            raise problem("SS105", f"limit {text!r}: write sparsity>=70%, and <= for every other cost.")
        try:
            value = Fraction(number)
        except ValueError:
            raise problem("SS105", f"limit {text!r}: {number!r} is not a number.") from None
        written = re.sub(r"\s", "", text)
        if unit == "%" or cost == "sparsity":
            value = value / 100 if unit == "%" else value
            if not 0 <= value <= 1:
                hint = 'For percent write "50%".' if cost == "sparsity" else "Percentages are of the dense model."
                raise problem("SS105", f"limit {text!r}: {number}{unit} is outside [0, 1].", fix=hint)
            return cls(written, cost, value, relative=True)
        allowed = [u for u in _SCALE if cost.endswith("bytes") or len(u) < 2]
        if unit.upper() not in allowed:
            hint = f"Use %, {', '.join(u.replace('IB', 'iB') for u in allowed if u)}."
            raise problem("SS105", f"limit {text!r}: {unit!r} is no unit of {cost}.", fix=hint)
        value *= scale * _SCALE[unit.upper()]
        if value > _LARGEST:
            raise problem("SS105", f"limit {text!r} is beyond {_LARGEST:.0e}.", fix="Limits are of real networks.")
        return cls(written, cost, value, relative=False)

    def bound(self, dense: dict[str, int], prunable: int) -> Bound:
        """The integer bound that a candidate must not exceed.

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
                fix="Runs whose objectives or limits name it, or that have a latency.table, know it.",
            )
        maximum = math.floor(self.value * dense[self.cost] if self.relative else self.value)
        return Bound(self.text, self.cost, maximum)


@dataclass(frozen=True)
class Bound:
    """`cost` of a candidate must be at most `maximum`; `text` is the limit it came from."""

    text: str
    cost: str
    maximum: int
