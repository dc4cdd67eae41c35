"""Samples for any task: windows of tokens from files, the standard library, a `datasets` id or any iterable of strings;
images through `images.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sparsesearch.calibration.images import image_samples
from sparsesearch.calibration.samples import Samples
from sparsesearch.config import DataConfig
from sparsesearch.demo import corpus
from sparsesearch.errors import InputError
from sparsesearch.models.load import load_tokenizer
from sparsesearch.models.task import Task

Tokens = npt.NDArray[np.int32]

# How many times the tokens needed are read from sources that may have no end.
ENDLESS = 16


def token_windows(data: DataConfig, tokenizer: Any, role: str, texts: Iterable[str] | None = None) -> Tokens:
    """Windows of consecutive tokens without added special tokens, shape (sequences, length).

    Args:
        data: where the text comes from, and how many windows of which length.
        tokenizer: a Hugging Face tokenizer.
        role: `calibration`, `selection` or `test`, for messages.
        texts: documents to use in place of `data.source`.

    Raises InputError SS204 when a file is missing, a column absent or the text too short.
    """
    need = data.sequences * data.length
    # Windows are spread over whole files, but data sets and iterables may be endless: a good deal of them is enough.
    endless = texts is not None or str(data.source).startswith("datasets:")
    enough = need if data.take == "first" else ENDLESS * need if endless else None
    ids: list[int] = []
    for document in texts if texts is not None else _documents(data, role):
        if not isinstance(document, str):
            raise InputError("SS204", f"{role} data: documents are strings, got {type(document).__name__}.")
        ids += tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
        if enough is not None and len(ids) >= enough:
            break
    available = len(ids) // data.length
    if available < data.sequences:
        raise InputError(
            "SS204",
            f"{role} data ({_name(data)}) has {available} of {data.sequences} sequences of {data.length} tokens.",
            f"Give more text, or set data.{role}.sequences or data.{role}.length lower.",
        )
    windows = np.asarray(ids[: available * data.length], dtype=np.int32).reshape(available, data.length)
    if data.take == "first":
        return windows[: data.sequences]
    spread: Tokens = windows[np.linspace(0, available - 1, data.sequences).round().astype(int)]
    return spread


def _name(data: DataConfig) -> str:
    sources = [data.source] if isinstance(data.source, str) else data.source
    return sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"


def samples_of(
    data: DataConfig, task: Task, directory: Path | None, role: str, given: Iterable[Any] | None = None
) -> Samples:
    """Samples of the kind that a task takes.

    Args:
        directory: of the model, where its tokenizer or its image processor lies.
        role: `calibration`, `selection` or `test`, for messages.
        given: documents (token tasks) to use in place of `data.source`.

    Raises InputError SS204 (missing, unreadable or too short) or SS212 (labels, images).
    """
    if task.data == "image":
        return image_samples(data, directory, role)
    assert directory is not None
    tokenizer = load_tokenizer(directory)
    windows = token_windows(data, tokenizer, role, given)
    if task.data == "pair":
        # The decoder goes on where the encoder's text ends.
        half = windows.shape[1] // 2
        return Samples({"input_ids": windows[:, :half], "decoder_input_ids": windows[:, half:]})
    if task.special and tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None:
        windows = windows.copy()
        windows[:, 0], windows[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    return Samples({"input_ids": windows})


def _documents(data: DataConfig, role: str) -> Iterator[str]:
    if isinstance(data.source, str) and data.source.startswith("datasets:"):
        yield from _dataset(data, role)
        return
    if isinstance(data.source, str) and data.source.startswith("stdlib:"):
        split = data.source.removeprefix("stdlib:")
        if split not in corpus.SPLITS:
            raise InputError("SS204", f"{role} data: stdlib split {split!r} is not one of {', '.join(corpus.SPLITS)}.")
        yield from corpus.documents(cast(corpus.Split, split))
        return
    for name in [data.source] if isinstance(data.source, str) else data.source:
        try:
            yield Path(name).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            hint = f"Give data.{role}.source a UTF-8 text file."
            raise InputError("SS204", f"{role} data: cannot read {name}: {reason}.", hint) from None


def _dataset(data: DataConfig, role: str) -> Iterator[str]:
    import datasets

    datasets.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    name, config, split, *_ = [*str(data.source).removeprefix("datasets:").split(":"), "", ""]
    try:
        rows = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
        for row in rows:
            if data.column not in row:
                raise InputError(
                    "SS204", f"{role} data: {name} has no column {data.column!r}, only {', '.join(row)}.",
                    f"Set data.{role}.column.",
                )  # fmt: skip
            if not isinstance(row[data.column], str):
                raise InputError("SS204", f"{role} data: column {data.column!r} of {name} does not hold text.")
            yield row[data.column]
    except InputError:
        raise
    except Exception as error:  # the library raises dozens of types for a missing set, no network, a bad config
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError("SS204", f"{role} data: cannot load data set {name!r}: {first_line}") from None
