"""Who proposes candidates, which of them are measured, and when to stop."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pydantic import Field, field_validator

from sparsesearch.config.base import LARGEST, LONGEST, MANY, Finite, Fraction, Seed, Strict, Text


class Rung(Strict):
    """A rung of training that candidates climb when a search has ended."""

    # Training tokens in all, those of the rungs below among them.
    tokens: int = Field(ge=1, le=LARGEST)
    # Candidates that reach it: the best of the rung below, at all sizes.
    candidates: int = Field(ge=1, le=MANY)


class ScreenConfig(Strict):
    """A proxy that chooses which children are measured, once it was seen to rank candidates as measurements do."""

    # One that reads matrices; `sparsesearch list proxies`.
    proxy: Text
    # Made for each that is measured.
    children: int = Field(4, ge=2, le=MANY)
    # Share of the measured ones that are chosen blindly.
    unscreened: Fraction = 0.25
    # Candidates of equal cost that the proxy is compared on first, and selection tokens of each.
    candidates: int = Field(32, ge=8, le=MANY)
    tokens: int = Field(2048, ge=1, le=LARGEST)


class SearchConfig(Strict):
    """Who proposes candidates, how each is measured, and when to stop."""

    searcher: Text = "auto"
    # Options of the searcher; `sparsesearch list searchers` shows them.
    options: dict[str, Any] = {}
    # Bounds on the search; the measurements on all selection data that end it come on top.
    evals: int | None = Field(None, ge=1, le=LARGEST)
    tokens: int | None = Field(None, ge=1, le=LARGEST)
    hours: Finite | None = Field(None, gt=0, le=LONGEST)
    # Give a free worker the next child at once, without waiting for the rest of its generation (nsga2, nsga3, auto).
    # Workers never idle, but results depend on who is first.
    asynchronous: bool = False
    # What generation 0 holds beside the uniform ones: closed-form allocations (`sparsesearch list allocations`), and
    # fronts of other runs on the same model, by their directories (with a slash).
    seeds: list[Text] = []
    # A proxy that chooses among children (random, nsga2, nsga3, evolution).
    screen: ScreenConfig | None = None
    # Candidates measured on all selection data when the search ends (`evolution` takes its last four parents).
    final: int = Field(24, ge=1, le=MANY)
    # What the best of those climb then: short training runs on rising numbers of tokens, fewer candidates each.
    rungs: list[Rung] = []
    seed: Seed = 0

    @field_validator("rungs")
    @classmethod
    def _ladder(cls, rungs: list[Rung]) -> list[Rung]:
        for lower, upper in pairwise(rungs):
            if upper.tokens <= lower.tokens or upper.candidates > lower.candidates:
                raise ValueError("each rung takes more tokens than the one below, and no more candidates")
        return rungs
