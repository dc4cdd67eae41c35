"""Documents with classes, for classifiers of texts: one padded and masked sample each."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from sparsesearch.config import DataConfig
from sparsesearch.data.samples import MASK, Samples
from sparsesearch.data.tables import ENDLESS_READ_FACTOR, HUB, Row, class_of, is_table, sources_of, texts_of
from sparsesearch.errors import problem


def labelled_documents(data: DataConfig, tokenizer: Any, role: str) -> Samples | None:
    """Read documents of tables with a column of classes, cut or padded to `data.length` tokens.

    Args:
        data: the tables, their columns, and the number and length of samples.
        tokenizer: a Hugging Face tokenizer.
        role: `selection` or `test`, for messages.

    Returns:
        `input_ids` and `attention_mask`, (sequences, length) each, with labels; None if there is no such column.

    Raises InputError SS204 (too few, no padding token) or SS212 (labels that are not integers).
    """
    if not all(is_table(source) for source in sources_of(data)):
        return None
    rows = _rows(data, role)
    if not rows or data.label not in rows[0][2]:
        return None
    count = min(len(rows), data.sequences) if data.fewer else data.sequences
    if len(rows) < count:
        raise problem(
            "SS204",
            f"{role} data ({rows[0][0]}) has {len(rows)} of {data.sequences} documents.",
            fix=f"Give more, or set data.{role}.sequences lower.",
        )
    if tokenizer.pad_token_id is None:
        raise problem(
            "SS204",
            f"{role} data: the tokenizer has no padding token, and documents differ in length.",
            fix="Set pad_token in the model's tokenizer_config.json.",
        )
    selected = [rows[i] for i in np.linspace(0, len(rows) - 1, count).round().astype(int)]
    labels = [class_of(row, data, source, role) for source, _, row in selected]
    texts = [text for _, text, _ in selected]
    tokens = tokenizer(texts, truncation=True, padding="max_length", max_length=data.length)
    arrays = {name: np.asarray(tokens[name], dtype=np.int32) for name in ("input_ids", MASK)}
    return Samples(arrays, np.array(labels, dtype=np.int64))


def _rows(data: DataConfig, role: str) -> list[tuple[str, str, Row]]:
    """Return source, text and row of candidates: the first ones, or all of files, or a bounded part of data sets."""
    rows = ((source, text, row) for source in sources_of(data) for text, row in texts_of(source, data, role))
    if data.take == "first":
        return list(itertools.islice(rows, data.sequences))
    endless = any(source.startswith(HUB) for source in sources_of(data))
    return list(itertools.islice(rows, ENDLESS_READ_FACTOR * data.sequences if endless else None))
