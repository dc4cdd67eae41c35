"""An executor that replays searches from their archive: nothing is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, TypeVarTuple

Tag = TypeVar("Tag")
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class ReplayExecutor:
    """Raises AssertionError for every call; streams are empty."""

    def map(
        self,
        method: Callable[[Any, *Arguments], Result],
        calls: Sequence[tuple[*Arguments]],
        lanes: int | None = None,
        on_death: Callable[[str], Result] | None = None,
    ) -> Iterator[Result]:
        assert not calls, f"{method.__name__} is not in the archive"
        return iter(())

    def run(self, method: Callable[[Any, *Arguments], Result], *call: *Arguments) -> Result:
        raise AssertionError(f"{method.__name__} is not in the archive")

    def stream(
        self,
        method: Callable[[Any, *Arguments], Result],
        source: Callable[[], tuple[Tag, tuple[*Arguments]] | None],
        on_death: Callable[[str], Result] | None = None,
    ) -> Iterator[tuple[Tag, Result]]:
        return iter(())

    def each(self, method: Callable[[Any], Result]) -> list[Result]:
        return []

    def release(self) -> None: ...

    def close(self) -> None: ...
