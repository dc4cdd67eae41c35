"""The searcher, the measurements of its candidates, and when it stops."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pydantic import Field, field_validator

from sparsesearch.config.base import LARGEST, LONGEST, MANY, Finite, Fraction, Seed, Strict, Text


class Rung(Strict):
    """A short training run of the best candidates when a search has ended."""

    tokens: int = Field(
        ge=1, le=LARGEST, description="Training tokens of a candidate in all, those of the rungs below included."
    )
    candidates: int = Field(
        ge=1, le=MANY, description="Number of candidates that reach the rung: the best of the rung below, at all sizes."
    )


class ScreenConfig(Strict):
    """A proxy that chooses which children are measured; it is used only if it ranks candidates as measurements do."""

    proxy: Text = Field(description="Name of a proxy that reads matrices; see `sparsesearch list proxies`.")
    children: int = Field(4, ge=2, le=MANY, description="Number of children made for each one that is measured.")
    unscreened: Fraction = Field(
        0.25, description="Share of the measured children that are drawn at random, without the proxy."
    )
    candidates: int = Field(
        32,
        ge=8,
        le=MANY,
        description="Number of candidates of equal cost on which the proxy is first compared with measurements.",
    )
    tokens: int = Field(
        2048, ge=1, le=LARGEST, description="Selection tokens of each candidate measured for that comparison."
    )


class SearchConfig(Strict):
    """The searcher, its budget, and the final measurements."""

    searcher: Text = Field("auto", description="Name of the searcher; see `sparsesearch list searchers`.")
    options: dict[str, Any] = Field({}, description="Options of the searcher; see `sparsesearch list searchers NAME`.")
    evals: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Largest number of evaluations, without the final ones on all selection data; null: no bound, but "
        "600 if `tokens` and `hours` are null too and the searcher does not end by itself.",
    )
    tokens: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Largest number of tokens, without those of the final evaluations; a token of training counts "
        "three times; null: no bound.",
    )
    hours: Finite | None = Field(
        None, gt=0, le=LONGEST, description="Largest duration in hours, without the final evaluations; null: no bound."
    )
    asynchronous: bool = Field(
        False,
        description="Give a free worker the next child at once, without waiting for the rest of its generation (nsga2, "
        "nsga3, decomposition, auto); workers are never idle, but results depend on which one is first.",
    )
    seeds: list[Text] = Field(
        [],
        description="Candidates of generation 0 beside the uniform ones: names of closed-form allocations "
        "(`sparsesearch list allocations`), and directories, written with a slash, of runs on the same model, whose "
        "fronts are taken.",
    )
    screen: ScreenConfig | None = Field(
        None,
        description="A proxy that chooses among children (random, nsga2, nsga3, decomposition, evolution and its "
        "presets); null: all children are measured.",
    )
    final: int = Field(
        24,
        ge=1,
        le=MANY,
        description="Number of candidates measured on all selection data when the search ends; `evolution` and its "
        "presets take their last parents, at most 4.",
    )
    rungs: list[Rung] = Field(
        [],
        description="Short training runs of the best of these candidates, on rising numbers of tokens, with fewer "
        "candidates each.",
    )
    seed: Seed = Field(0, description="Random seed of the search.")

    @field_validator("rungs")
    @classmethod
    def _ladder(cls, rungs: list[Rung]) -> list[Rung]:
        for lower, upper in pairwise(rungs):
            if upper.tokens <= lower.tokens or upper.candidates > lower.candidates:
                raise ValueError("each rung takes more tokens than the one below, and no more candidates")
        return rungs
