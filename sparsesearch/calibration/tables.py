"""Rows of tables: Parquet files, and data sets by `datasets` id."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparsesearch.config import DataConfig
from sparsesearch.errors import InputError

HUB = "datasets:"
# How many times what is needed is read from sources that may have no end.
ENDLESS = 16
Row = dict[str, Any]


def sources_of(data: DataConfig) -> list[str]:
    """Every source by itself."""
    return [data.source] if isinstance(data.source, str) else data.source


def is_table(source: str) -> bool:
    """Whether a source has rows with columns."""
    return source.startswith(HUB) or source.endswith(".parquet")


def rows_of(source: str, role: str) -> Iterator[Row]:
    """Rows of a table, read as they are asked for; raises InputError SS204 where it cannot be read."""
    return _dataset(source, role) if source.startswith(HUB) else _parquet(Path(source).expanduser(), role)


def column_of(row: Row, column: str, source: str, role: str) -> Any:
    """A value of a row; raises InputError SS204 where there is no such column."""
    if column not in row:
        raise InputError(
            "SS204", f"{role} data: {source.removeprefix(HUB)} has no column {column!r}, only {', '.join(row)}.",
            f"Set data.{role}.column.",
        )  # fmt: skip
    return row[column]


def text_of(row: Row, data: DataConfig, source: str, role: str) -> str:
    """The text of a row; raises InputError SS204 where there is none."""
    text = column_of(row, data.column, source, role)
    if not isinstance(text, str):
        raise InputError(
            "SS204", f"{role} data: column {data.column!r} of {source.removeprefix(HUB)} does not hold text."
        )
    return text


def _parquet(path: Path, role: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        reason = (getattr(error, "strerror", None) or str(error).strip().splitlines()[0]).rstrip(".")
        raise InputError("SS204", f"{role} data: cannot read {path}: {reason}.", f"Set data.{role}.source.") from None


def _dataset(source: str, role: str) -> Iterator[Row]:
    import datasets

    datasets.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    name, config, split, *_ = [*source.removeprefix(HUB).split(":"), "", ""]
    try:
        yield from datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
    except Exception as error:  # the library raises dozens of types for a missing set, no network, a bad config
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError("SS204", f"{role} data: cannot load data set {name!r}: {first_line}") from None
