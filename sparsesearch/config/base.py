"""What all parts of the configuration are made of: a model that knows its keys, and bounded numbers and texts."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sparsesearch.errors import name_problem

# Tokens, evaluations and bytes at most: sums of many still fit 64 bits.
LARGEST = 10**15
# Samples, tokens of context and positions at most.
LONGEST = 10**9
# Whatever is made or held at once at most: children, samples of a forward pass, workers.
MANY = 10_000
# Levels of a unit at most, the dense one not counted: a genome's numbers have 16 bits.
MOST_LEVELS = 2**15 - 1


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _text(value: str) -> str:
    if fault := name_problem(value):
        raise ValueError(fault)
    return value


# A name or a path.
Text = Annotated[str, AfterValidator(_text)]
# A float that is neither infinite nor nan.
Finite = Annotated[float, Field(allow_inf_nan=False)]
# What every generator of random numbers takes.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _fraction(value: Any) -> Any:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([0-9]+\.?[0-9]*)\s*%\s*", value)):
        if float(match.group(1)) > 100:
            raise ValueError(f"{value} is outside [0, 1].")
        return float(match.group(1)) / 100
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value <= 1:
        raise ValueError(f'{value} is outside [0, 1]. For percent write "{value}%".')
    return value


Fraction = Annotated[float, BeforeValidator(_fraction), Field(ge=0, le=1)]
