"""Parts that are chosen by name: those of sparsesearch and those that plug-ins register."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from sparsesearch.errors import problem

T = TypeVar("T")
Part = TypeVar("Part")


class Registry(Mapping[str, T]):
    """The entries of one kind, by name, in the order in which they were registered.

    Attributes:
        kind: what an entry is, such as `searcher`; errors name it.
        listed: argument of `sparsesearch list` that shows the entries; '' if none does.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, T] | None = None,
        *,
        base: type | None = None,
        listed: str = "",
        derived: Callable[[], Mapping[str, T]] | None = None,
    ) -> None:
        """
        Args:
            entries: those that the registry begins with.
            base: class that registered classes must be subclasses of; None: what is registered must be callable.
            derived: further entries that follow from another registry; called at every look-up, so that they keep up
                with it.
        """
        self.kind, self.listed = kind, listed
        self._entries, self._base, self._derived = dict(entries or {}), base, derived

    def register(self, name: str, make: Callable[[Any], T] | None = None) -> Callable[[Part], Part]:
        """Return a decorator that registers a class or function and returns it; an entry of the same name is replaced.

        Args:
            make: makes the entry of what is decorated; None: that is the entry.

        Raises InputError SS127 for a name that is no text, and from the decorator for something that cannot be an
        entry.
        """
        if not isinstance(name, str) or not name:
            raise problem(
                "SS127",
                f"{self.kind}: registered under {_described(name)}, not under a name.",
                fix="Give the decorator a name, such as 'mine', in parentheses.",
            )

        def decorate(part: Part) -> Part:
            self._check(name, part)
            self._entries[name] = part if make is None else make(part)  # type: ignore[assignment]
            return part

        return decorate

    def _check(self, name: str, part: object) -> None:
        fault = ""
        if self._base is None:
            fault = "" if callable(part) else "is not callable"
        elif not (isinstance(part, type) and issubclass(part, self._base)):
            fault = f"is no subclass of {self._base.__module__}.{self._base.__qualname__}"
        elif inspect.isabstract(part):
            fault = f"does not define {', '.join(sorted(getattr(part, '__abstractmethods__', ())))}"
        if fault:
            raise problem("SS127", f"{self.kind} {name!r}: {_described(part)} {fault}.", fix="Correct it.")

    def find(self, name: str, key: str = "", besides: Iterable[str] = ()) -> T:
        """Return the entry of a name; raises InputError SS102, which suggests near names, if there is none.

        Args:
            key: where the name was given, such as `search.searcher`.
            besides: names that are allowed there and are no entries, such as `auto`.
        """
        if name in self:
            return self[name]
        what = f"{key} {name!r}: unknown {self.kind}" if key else f"unknown {self.kind} {name!r}"
        fix = f"See: sparsesearch list {self.listed}" if self.listed else ""
        raise problem("SS102", what, got=name, allowed=[*besides, *self], fix=fix)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Put the entries back as they are now when the block ends; for tests that register parts."""
        before = dict(self._entries)
        try:
            yield
        finally:
            self._entries = before

    def _all(self) -> Mapping[str, T]:
        return self._entries if self._derived is None else {**self._derived(), **self._entries}

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        if self._derived is None:
            return iter(self._entries)
        return iter(dict.fromkeys([*self._entries, *self._derived()]))

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"Registry({self.kind}: {', '.join(self)})"


def summary_of(part: object) -> str:
    """Return the first line of a part's docstring; '' if it has none."""
    return next(iter((part.__doc__ or "").strip().splitlines()), "")


def _described(part: object) -> str:
    if isinstance(part, type):
        return f"class {part.__qualname__}"
    return getattr(part, "__qualname__", None) or repr(part)
