"""The logger of sparsesearch. `-v` shows what it does, `--debug` also details, on workers too."""

from __future__ import annotations

import logging

logger = logging.getLogger("sparsesearch")


def show(level: int) -> None:
    """Print records from a level on to stderr, with the process that they come from."""
    if not any(getattr(handler, "is_sparsesearch", False) for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.is_sparsesearch = True  # type: ignore[attr-defined]
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(process)d] %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    logger.setLevel(level)


def level() -> int:
    """Return the level that is shown, for workers in other processes; 0 if the user asked for nothing."""
    return logger.level


def is_verbose() -> bool:
    return 0 < logger.level <= logging.INFO
