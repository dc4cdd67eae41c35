"""Types of options that several searchers have, with their bounds and descriptions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sparsesearch.config.base import LARGEST, MANY

SelectionTokens = Annotated[
    int, Field(ge=0, le=LARGEST, description="Selection tokens that a candidate is measured on; 0: all there are.")
]
UniformSizes = Annotated[
    int,
    Field(
        ge=0,
        le=MANY,
        description="Number of sizes at which generation 0 has uniform genomes, and the allocations that "
        "`search.seeds` names.",
    ),
]
Offspring = Annotated[int, Field(ge=1, le=MANY, description="Children in a generation.")]
