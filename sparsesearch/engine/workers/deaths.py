"""Calls whose worker died."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sparsesearch.errors import problem

# Times that a call is repeated on a fresh worker after its worker died.
RETRIES = 2

Result = TypeVar("Result")


def result_of_death(reason: str, on_death: Callable[[str], Result] | None) -> Result:
    """Return the result of a call whose workers keep dying; raises SparseSearchError SS400 without `on_death`.

    Args:
        on_death: makes the result from the reason.
    """
    if on_death is None:
        raise problem("SS400", f"{reason}.", fix="Is there enough memory? Try fewer --workers.")
    return on_death(reason)
