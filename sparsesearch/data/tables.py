"""Rows of tables: Parquet, CSV and JSON files, and data sets by `datasets` id."""

from __future__ import annotations

import csv
import itertools
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from sparsesearch.config import DataConfig
from sparsesearch.data.sources import GZIP, cannot_read, is_json, open_text, regular_file, translate_read_errors
from sparsesearch.errors import SparseSearchError, first_line, printable, problem
from sparsesearch.files import MAX_DOCUMENT_BYTES

# Prefix of sources that are ids of the `datasets` library.
HUB = "datasets:"
# Sources that may have no end are read up to this multiple of the amount needed.
ENDLESS_READ_FACTOR = 16
# Longer rows of CSV or JSON lines are refused.
MAX_ROW_CHARACTERS = 2**26
# Rows of a Parquet file that are in memory at once.
PARQUET_BATCH_ROWS = 1024
# Rows that are searched for the column of texts, and the names that decide if several columns hold text.
HEAD_ROWS = 100
TEXT_COLUMN = DataConfig.model_fields["column"].default
TEXT_COLUMN_NAMES = ("content", "document", "sentence", "body", "article", "passage")
Row = dict[str, Any]
_log = logging.getLogger(__name__)


def sources_of(data: DataConfig) -> list[str]:
    """Return the sources as a list."""
    return [data.source] if isinstance(data.source, str) else data.source


def is_table(source: str) -> bool:
    """Return whether a source has rows with columns."""
    return source.startswith(HUB) or _format(source) in _READERS


def _format(source: str) -> str:
    return Path(source.lower().removesuffix(GZIP)).suffix


def rows_of(source: str, role: str) -> Iterator[Row]:
    """Yield the rows of a table, read lazily; raises InputError SS204 if it cannot be read."""
    return _dataset(source, role) if source.startswith(HUB) else _READERS[_format(source)](source, role)


def column_of(row: Row, column: str, source: str, role: str) -> Any:
    """Return a value of a row; raises InputError SS204 if there is no such column."""
    if column not in row:
        raise _column_error(repr(column), row, source, role)
    return row[column]


def _column_error(missing: str, columns: Iterable[str], source: str, role: str) -> SparseSearchError:
    return problem(
        "SS204",
        f"{role} data: {_name(source)} has no column {missing}, only {printable(', '.join(columns), 400)}.",
        fix=f"Set data.{role}.column.",
    )


def _name(source: str) -> str:
    return source.removeprefix(HUB)


def texts_of(source: str, data: DataConfig, role: str) -> Iterator[tuple[str, Row]]:
    """Yield texts of a table with their rows; rows without text are skipped, and nulls are counted in a warning.

    Raises InputError SS204 if there is no column of texts, or if it holds other values.
    """
    rows = rows_of(source, role)
    head = list(itertools.islice(rows, HEAD_ROWS))
    column = _text_column(head, data, source, role) if head else ""
    nulls = 0
    for number, row in enumerate(itertools.chain(head, rows), 1):
        text = row.get(column)
        if text is None:
            nulls += 1
        elif not isinstance(text, str):
            raise problem(
                "SS204",
                f"{role} data: column {column!r} of {_name(source)} holds {type(text).__name__} in row {number:,}, "
                "not text.",
                fix=f"Set data.{role}.column.",
            )
        elif text:
            yield text, row
    if nulls:
        _log.warning("%s data: %s rows of %s have no text and are skipped.", role, f"{nulls:,}", _name(source))


def _text_column(rows: list[Row], data: DataConfig, source: str, role: str) -> str:
    """Return `data.column` if it exists; if it is the default, else the only column that can hold the texts."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if data.column in columns:
        return data.column
    if data.column != TEXT_COLUMN:
        raise _column_error(repr(data.column), columns, source, role)
    texts = [name for name in columns if any(_is_prose(row.get(name)) for row in rows)]
    for candidates in ([name for name in texts if name.lower() in (TEXT_COLUMN, *TEXT_COLUMN_NAMES)], texts):
        if len(candidates) == 1:
            return candidates[0]
    raise _column_error(f"{TEXT_COLUMN!r}, nor exactly one of texts", columns, source, role)


def _is_prose(value: Any) -> bool:
    return isinstance(value, str) and any(c.isalpha() for c in value)


def class_of(row: Row, data: DataConfig, source: str, role: str) -> int:
    """Return the class of a row; raises InputError SS212 for a label that is not an integer from 0."""
    label = column_of(row, data.label, source, role)
    if isinstance(label, str) and label.isascii() and label.isdigit() and len(label) < 10:  # CSV holds only text
        return int(label)
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < 2**31:
        got = printable(repr(label), 80)
        raise problem(
            "SS212", f"{role} data: label {got} is no class, in {_name(source)}.", fix="Labels are integers from 0."
        )
    return label


def _parquet(source: str, role: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet as parquet

    path = regular_file(source, role)
    try:
        with translate_read_errors(path, role):
            for batch in parquet.ParquetFile(path).iter_batches(PARQUET_BATCH_ROWS):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:  # also values without a Python type
        raise cannot_read(path, role, first_line(error)) from None


_QUOTING_HINT = "Quote texts that hold separators, quotes (doubled) or line ends."


def _csv(source: str, role: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW_CHARACTERS)
    with open_text(source, role, newline="") as file:
        if is_json(file):
            raise cannot_read(source, role, "its content is JSON", "Name it .jsonl or .json.")
        first = file.readline(MAX_ROW_CHARACTERS)
        file.seek(0)
        separator = "\t" if _format(source) == ".tsv" else max(",;\t|", key=first.count)
        reader = csv.reader(_lines(file, source, role), delimiter=separator, strict=True)
        try:
            yield from _csv_rows(reader, source, role)
        except csv.Error as error:
            reason = f"line {reader.line_num:,}: {first_line(error)}"
            raise cannot_read(source, role, reason, _QUOTING_HINT) from None


def _csv_rows(reader: Iterator[list[str]], source: str, role: str) -> Iterator[Row]:
    header = next(reader, [])
    if not header:
        raise cannot_read(source, role, "it is empty")
    if len(set(header)) < len(header):
        duplicate = next(name for name in header if header.count(name) > 1)
        raise cannot_read(source, role, f"two columns are named {printable(duplicate, 80)!r}", "Rename one.")
    for number, values in enumerate(reader, 1):
        if values and len(values) != len(header):
            reason = f"row {number:,} has {len(values)} values, the header has {len(header)} columns"
            raise cannot_read(source, role, reason, _QUOTING_HINT)
        if values:
            yield dict(zip(header, values, strict=True))


def _lines(file: TextIO, source: str, role: str) -> Iterator[str]:
    for number, line in enumerate(iter(lambda: file.readline(MAX_ROW_CHARACTERS), ""), 1):
        if len(line) == MAX_ROW_CHARACTERS:
            raise cannot_read(source, role, f"line {number:,} has more than {MAX_ROW_CHARACTERS:,} characters")
        yield line


def _json_lines(source: str, role: str) -> Iterator[Row]:
    with open_text(source, role) as file:
        for number, line in enumerate(_lines(file, source, role), 1):
            if line.strip():
                yield _row(_parse(line, f"line {number:,}: ", source, role), number, source, role)


def _row(value: Any, number: int, source: str, role: str) -> Row:
    if not isinstance(value, dict):
        raise cannot_read(source, role, f"row {number:,} is {type(value).__name__}, not a JSON object")
    return value


def _parse(text: str, place: str, source: str, role: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise cannot_read(source, role, f"{place}not JSON: {first_line(error)}") from None


def _json(source: str, role: str) -> Iterator[Row]:
    """Yield the rows of a JSON document, or of JSON lines in a file named .json."""
    with open_text(source, role) as file:
        if _is_lines(file):
            yield from _json_lines(source, role)
            return
        file.seek(0)
        text = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(text) > MAX_DOCUMENT_BYTES:
        raise cannot_read(source, role, f"it has more than {MAX_DOCUMENT_BYTES:,} characters", "Write JSON lines.")
    rows = _rows_in(_parse(text, "", source, role))
    if rows is None:
        reason = "it is not a list of objects, an object of columns, or an object with one such list"
        raise cannot_read(source, role, reason, "Write JSON lines.")
    yield from (_row(row, number, source, role) for number, row in enumerate(rows, 1))


def _is_lines(file: TextIO) -> bool:
    """Return whether the first line is a complete object and there is another line."""
    first = file.readline(MAX_ROW_CHARACTERS)
    try:
        return isinstance(json.loads(first), dict) and bool(file.readline(1))
    except (ValueError, RecursionError):
        return False


def _rows_in(document: Any) -> list[Any] | None:
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return None
    # pandas writes a column as an object from row names to values.
    columns = {k: list(v.values()) if isinstance(v, dict) else v for k, v in document.items()}
    tables = [v for v in document.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    lengths = {len(v) if isinstance(v, list) else None for v in columns.values()}
    if len(lengths) == 1 and None not in lengths and not len(columns) == len(tables) == 1:
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return tables[0] if len(tables) == 1 else None


def _dataset(source: str, role: str) -> Iterator[Row]:
    import datasets

    datasets.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    name, config, split, *_ = [*source.removeprefix(HUB).split(":"), "", ""]
    try:
        yield from datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
    except Exception as error:  # the library raises dozens of types: a missing set, no network, a wrong configuration
        raise problem("SS204", f"{role} data: cannot load data set {name!r}: {first_line(error)}") from None


_READERS = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
}
