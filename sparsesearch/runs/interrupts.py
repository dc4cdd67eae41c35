"""Ctrl-C (and SIGTERM) that is never lost and never interrupts a library at a bad moment.

Extension modules may swallow the KeyboardInterrupt that Python raises inside them, and the start of Ray must not be
interrupted. So the signal is remembered, `check` raises it again at the next safe point, and `deferred` delays it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_installed = _requested = False
_deferred = False


def install() -> None:
    """Install handlers of SIGINT and SIGTERM; for the main thread of the command line."""
    global _installed
    _installed = True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _handle)


def reinstall() -> None:
    """Install the handlers again after a library has replaced them, as Ray does for SIGTERM."""
    if _installed:
        install()


def _handle(number: int, frame: Any) -> None:
    global _requested
    _requested = True
    if not _deferred:
        raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt if a signal to stop has come."""
    if _requested:
        raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[None]:
    """Delay a signal to stop until the block has ended."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False
    check()
