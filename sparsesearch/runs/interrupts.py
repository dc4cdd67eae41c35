"""Ctrl-C (and SIGTERM) that cannot get lost and never hits a library at a bad moment.

Extension modules may swallow the KeyboardInterrupt that Python raises inside them, and starting Ray must not be cut in
half. So the wish to stop is remembered, `check` raises it again at the next safe point, and `deferred` holds it back.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_installed = _asked = False
_deferred = False


def install() -> None:
    """Take over SIGINT and SIGTERM; for the main thread of the command line."""
    global _installed
    _installed = True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _handle)


def restore() -> None:
    """Take them over again where a library has put its own handlers in place of ours, as Ray does for SIGTERM."""
    if _installed:
        install()


def _handle(number: int, frame: Any) -> None:
    global _asked
    _asked = True
    if not _deferred:
        raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt where the user has asked to stop."""
    if _asked:
        raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[None]:
    """Hold a wish to stop back until the block has ended."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False
    check()
