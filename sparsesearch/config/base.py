"""What all parts of the configuration are made of: a model that knows its keys, and a fraction."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _fraction(value: Any) -> Any:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([0-9]+\.?[0-9]*)\s*%\s*", value)):
        if float(match.group(1)) > 100:
            raise ValueError(f"{value} is outside [0, 1].")
        return float(match.group(1)) / 100
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value <= 1:
        raise ValueError(f'{value} is outside [0, 1]. For percent write "{value}%".')
    return value


Fraction = Annotated[float, BeforeValidator(_fraction), Field(ge=0, le=1)]
