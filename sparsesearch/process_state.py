"""Settings of the whole process, changed for a block of code and put back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch on `count` threads: they decide the order of sums, so results agree to the last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Switch off the progress bars of transformers and of data sets, if these are imported."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    datasets = sys.modules.get("datasets")
    sets_enabled = datasets is not None and datasets.are_progress_bars_disabled() is False
    logging.disable_progress_bar()
    if datasets is not None and sets_enabled:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
        if datasets is not None and sets_enabled:
            datasets.enable_progress_bars()


@contextmanager
def environment(defaults: Mapping[str, str], **values: str) -> Iterator[None]:
    """Set environment variables.

    Args:
        defaults: variables to set only if they are not set.
        values: variables to set in any case.
    """
    values = {name: value for name, value in defaults.items() if name not in os.environ} | values
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def import_path(*directories: Path) -> Iterator[None]:
    """Put directories first on the path that modules are imported from."""
    names = [str(directory) for directory in directories]
    sys.path[:0] = names
    try:
        yield
    finally:
        for name in names:
            if name in sys.path:
                sys.path.remove(name)
