"""Samples for any task: windows of tokens from files, tables, the standard library or an iterable of strings; documents
with their classes through `documents.py`, images through `images.py`.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sparsesearch.calibration.documents import labelled_documents
from sparsesearch.calibration.images import image_samples
from sparsesearch.calibration.samples import Samples
from sparsesearch.calibration.tables import ENDLESS, HUB, is_table, rows_of, sources_of, text_of
from sparsesearch.config import DataConfig
from sparsesearch.demo import corpus
from sparsesearch.errors import InputError
from sparsesearch.models.load import load_tokenizer
from sparsesearch.models.task import Task

# In a directory that `sparsesearch choose` wrote: how its samples were chosen.
CHOICE = "choice.json"
# Characters that are tokenised at once.
PIECE = 2**20
Tokens = npt.NDArray[np.int32]


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
    endless = texts is not None or any(s.startswith(HUB) for s in sources_of(data))
    enough = need if data.take == "first" else ENDLESS * need if endless else None
    ids = array("i")
    for document in texts if texts is not None else _documents(data, role):
        if not isinstance(document, str):
            raise InputError("SS204", f"{role} data: documents are strings, got {type(document).__name__}.")
        ids.extend(tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"])
        if enough is not None and len(ids) >= enough:
            break
    available = len(ids) // data.length
    count = min(data.sequences, available) if data.fewer else data.sequences
    if available < max(count, 1):
        raise InputError(
            "SS204",
            f"{role} data ({_name(data)}) has {available} of {data.sequences} sequences of {data.length} tokens.",
            f"Give more text, or set data.{role}.sequences or data.{role}.length lower.",
        )
    windows = np.asarray(ids[: available * data.length], dtype=np.int32).reshape(available, data.length)
    if data.take == "first":
        return windows[:count]
    spread: Tokens = windows[np.linspace(0, available - 1, count).round().astype(int)]
    return spread


def _name(data: DataConfig) -> str:
    sources = sources_of(data)
    return sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"


def fits(task: Task, directory: Path | None) -> str:
    """What samples have to fit: the kind of data, and the tokenizer's vocabulary."""
    if task.data == "image" or directory is None:
        return task.data
    vocabulary = sorted(load_tokenizer(directory).get_vocab().items())
    return f"{task.data} {hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()[:16]}"


def _chosen(data: DataConfig, task: Task, model: Path | None, role: str) -> Samples | None:
    """What `sparsesearch choose` wrote, where the source is that; raises InputError SS204 where it does not fit."""
    sources = sources_of(data)
    directory = Path(sources[0]).expanduser()
    if len(sources) != 1 or not (directory / CHOICE).is_file():
        return None
    if json.loads((directory / CHOICE).read_text())["fits"] != fits(task, model):
        raise InputError(
            "SS204", f"{role} data ({directory}) were chosen for another kind of model or another tokenizer.",
            "Choose again, with this model.",
        )  # fmt: skip
    found = Samples.load(directory)
    if (len(found) < data.sequences and not data.fewer) or found.length not in (data.length, 1):
        raise InputError(
            "SS204", f"{role} data ({directory}) has {len(found)} samples of {found.length}, wanted are "
            f"{data.sequences} of {data.length}.", f"Set data.{role}.sequences and data.{role}.length to what it has.",
        )  # fmt: skip
    return found.rows(slice(0, data.sequences))


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
    if given is None and (found := _chosen(data, task, directory, role)) is not None:
        return found
    if task.data == "image":
        return image_samples(data, directory, role)
    assert directory is not None
    tokenizer = load_tokenizer(directory)
    if task.name == "text-classes" and role != "calibration" and given is None:
        # Statistics are collected over whole windows, without padding.
        labelled = labelled_documents(data, tokenizer, role)
        if labelled is not None:
            return labelled
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
    for source in sources_of(data):
        if is_table(source):
            for row in rows_of(source, role):
                yield text_of(row, data, source, role)
        elif source.startswith("stdlib:"):
            split = source.removeprefix("stdlib:")
            if split not in corpus.SPLITS:
                allowed = ", ".join(corpus.SPLITS)
                raise InputError("SS204", f"{role} data: stdlib split {split!r} is not one of {allowed}.")
            yield from corpus.documents(cast(corpus.Split, split))
        else:
            yield from _pieces(_file(source, role))


def _pieces(text: str) -> Iterator[str]:
    """A long text in pieces that end where lines do: tokenizers take hundreds of bytes of memory a character."""
    piece: list[str] = []
    size = 0
    for line in text.splitlines(keepends=True):
        piece.append(line)
        size += len(line)
        if size >= PIECE:
            yield "".join(piece)
            piece, size = [], 0
    if piece:
        yield "".join(piece)


def _file(name: str, role: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        hint = f"Give data.{role}.source a UTF-8 text file."
        raise InputError("SS204", f"{role} data: cannot read {name}: {reason}.", hint) from None
