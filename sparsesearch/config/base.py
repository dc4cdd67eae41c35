"""Building blocks of the configuration: a model without unknown keys, and types of bounded numbers and texts."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from sparsesearch.errors import name_problem

# Most tokens, evaluations and bytes: sums of many still fit 64 bits.
LARGEST = 10**15
# Most samples, tokens of context and positions.
LONGEST = 10**9
# Most things that are made or held at once: children, samples of a forward pass, workers.
MANY = 10_000
# Most levels of a unit, the dense one not counted: a genome's numbers have 16 bits.
MOST_LEVELS = 2**15 - 1


class Strict(BaseModel):
    """A model that is immutable and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _text(value: str) -> str:
    if fault := name_problem(value):
        raise ValueError(fault)
    return value


# A name or a path.
Text = Annotated[str, AfterValidator(_text)]
# A float that is neither infinite nor nan.
Finite = Annotated[float, Field(allow_inf_nan=False)]
# A seed that every generator of random numbers takes.
Seed = Annotated[int, Field(ge=0, lt=2**32)]

_PERCENTAGE = r"\s*([0-9]+\.?[0-9]*)\s*%\s*"


def _fraction(value: Any) -> Any:
    if isinstance(value, str) and (match := re.fullmatch(_PERCENTAGE, value)):
        if float(match.group(1)) > 100:
            raise ValueError(f"{value} is outside [0, 1].")
        return float(match.group(1)) / 100
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value <= 1:
        raise ValueError(f'{value} is outside [0, 1]. For percent write "{value}%".')
    return value


FRACTION_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": f"^{_PERCENTAGE}$"}]
}
# A number in [0, 1], or a text such as "95%".
Fraction = Annotated[float, BeforeValidator(_fraction), Field(ge=0, le=1), WithJsonSchema(FRACTION_SCHEMA)]
