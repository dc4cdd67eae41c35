"""Samples for any task: windows of tokens from files, tables, the standard library or an iterable of strings; documents
with their classes through `documents.py`, images through `images.py`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import torch

from sparsesearch.config import DataConfig
from sparsesearch.data.documents import labelled_documents
from sparsesearch.data.images import image_samples
from sparsesearch.data.samples import Samples
from sparsesearch.data.sources import PIECE_CHARACTERS, document_pieces, existing_path, join_lines, text_lines
from sparsesearch.data.tables import ENDLESS_READ_FACTOR, HUB, is_table, sources_of, texts_of
from sparsesearch.demo import corpus
from sparsesearch.errors import DISK_FULL_ERRNOS, InputError, SparseSearchError, first_line, machine_problem, problem
from sparsesearch.files import load_json
from sparsesearch.models.load import dense_config, load_tokenizer, meta_model
from sparsesearch.models.task import Task

# File of `sparsesearch choose` that describes how the samples of its directory were chosen.
CHOICE_FILE = "choice.json"
# Prefix of sources that are splits of the demo corpus, documents of Python's standard library.
STDLIB = "stdlib:"
Tokens = npt.NDArray[np.int32]


def token_windows(data: DataConfig, tokenizer: Any, role: str, texts: Iterable[str] | None = None) -> Tokens:
    """Return windows of consecutive tokens without added special tokens, shape (sequences, length).

    Args:
        data: the sources of text, and the number and length of windows.
        tokenizer: a Hugging Face tokenizer.
        role: `calibration`, `selection` or `test`, for messages.
        texts: documents to use instead of `data.source`.

    Raises InputError SS204 if a file is missing, a column absent or the text too short.
    """
    needed = data.sequences * data.length
    # Windows are spread over complete files; data sets and iterables may be endless, so only a part of them is read.
    endless = texts is not None or any(s.startswith(HUB) for s in sources_of(data))
    enough = needed if data.take == "first" else ENDLESS_READ_FACTOR * needed if endless else None
    documents = documents_of(data, role) if texts is None else check_documents(texts, role)
    # All tokens of a text may be more than memory holds.
    with _temporary_file() as file:
        read = 0
        for ids in token_ids(documents, tokenizer, role):
            read += len(ids)
            file.write(ids.tobytes())
            if enough is not None and read >= enough:
                break
        available = read // data.length
        count = min(data.sequences, available) if data.fewer else data.sequences
        if available < max(count, 1):
            raise problem(
                "SS204",
                f"{role} data ({_name(data)}) has {available} of {data.sequences} sequences of {data.length} tokens.",
                fix=f"Give more text, or set data.{role}.sequences or data.{role}.length lower.",
            )
        file.flush()
        windows = np.memmap(file, dtype=np.int32, mode="r", shape=(available, data.length))
        if data.take == "first":
            return np.array(windows[:count])
        return np.array(windows[np.linspace(0, available - 1, count).round().astype(int)])


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    """Yield a file that is deleted afterwards; raises EnvironmentProblem SS305 if its disk is full."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:  # also when the last buffer is written on closing
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise machine_problem(error, f"cannot write to {tempfile.gettempdir()}") or error from None


def token_ids(documents: Iterable[str], tokenizer: Any, role: str) -> Iterator[Tokens]:
    """Yield the tokens of each document, or of each piece of a long one, (tokens,), without added special tokens."""
    for text in itertools.chain.from_iterable(map(document_pieces, documents)):
        try:
            ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        except (UnicodeError, TypeError) as error:  # a lone surrogate, which JSON can hold
            raise problem("SS204", f"{role} data: a document cannot be tokenised: {first_line(error)}.") from None
        yield np.asarray(ids, dtype=np.int32)


def check_vocabulary(samples: Samples, directory: Path, role: str) -> None:
    """Raise InputError SS204 if samples hold tokens outside the model's vocabulary (another model's tokenizer)."""
    try:
        vocabulary = getattr(dense_config(directory).get_text_config(), "vocab_size", None)
    except InputError:  # the configuration would run code of the model
        return
    largest = max(int(a.max()) for a in samples.arrays.values() if a.dtype.kind in "iu")
    if vocabulary is not None and largest >= vocabulary:
        raise problem(
            "SS204",
            f"{role} data: the tokenizer gives token {largest:,}, and the model has {vocabulary:,} tokens.",
            fix=f"Put the model's own tokenizer into {directory}.",
        )


def check_image_size(samples: Samples, directory: Path, role: str) -> None:
    """Raise InputError SS204 if images have a size that the model cannot take."""
    try:
        model = meta_model(dense_config(directory))
    except InputError:  # the configuration would run code of the model
        return
    shape = samples.arrays["pixel_values"].shape[1:]
    try:
        model(torch.empty(1, *shape, device="meta"))
    except (ValueError, RuntimeError) as error:
        raise problem(
            "SS204",
            f"{role} data: the model cannot take images of shape {shape}: {first_line(error)}.",
            fix="Set image.size of these data to the model's, or correct its preprocessor_config.json.",
        ) from None


def _name(data: DataConfig) -> str:
    sources = sources_of(data)
    return sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"


def compatibility_key(task: Task, directory: Path | None) -> str:
    """Return a text that is equal for models that can share samples: the kind of data and a hash of the vocabulary."""
    if task.data == "image" or directory is None:
        return task.data
    vocabulary = sorted(load_tokenizer(directory).get_vocab().items())
    return f"{task.data} {hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()[:16]}"


def _load_chosen_samples(data: DataConfig, task: Task, model: Path | None, role: str) -> Samples | None:
    """Return the samples of a directory that `sparsesearch choose` wrote; None if the source is not one.

    Raises InputError SS204 if they do not fit the model or the data options.
    """
    sources = sources_of(data)
    if len(sources) != 1 or sources[0].startswith((HUB, STDLIB)):
        return None
    directory = existing_path(sources[0], role)
    if not (directory / CHOICE_FILE).is_file():
        return None
    choice = load_json(directory / CHOICE_FILE, lambda reason: _choice_error(directory, role, reason))
    if choice.get("fits") != compatibility_key(task, model):
        raise problem(
            "SS204",
            f"{role} data ({directory}) were chosen for another kind of model or another tokenizer.",
            fix="Choose again, with this model.",
        )
    samples = Samples.load(directory)
    if (len(samples) < data.sequences and not data.fewer) or samples.length not in (data.length, 1):
        raise problem(
            "SS204",
            f"{role} data ({directory}) has {len(samples)} samples of {samples.length} tokens; the recipe needs "
            f"{data.sequences} of {data.length}.",
            fix=f"Set data.{role}.sequences and data.{role}.length to the numbers of the directory.",
        )
    return samples.rows(slice(0, data.sequences))


def _choice_error(directory: Path, role: str, reason: str) -> SparseSearchError:
    path = directory / CHOICE_FILE
    return problem("SS204", f"{role} data: {path} is damaged: {reason.rstrip('.')}.", fix="Choose again.")


def samples_of(
    data: DataConfig, task: Task, directory: Path | None, role: str, texts: Iterable[Any] | None = None
) -> Samples:
    """Read samples of the kind that a task takes.

    Args:
        data: the sources, and the number of samples.
        task: the model's task.
        directory: the model's directory, with its tokenizer or image processor.
        role: `calibration`, `selection` or `test`, for messages.
        texts: documents (token tasks) to use instead of `data.source`.

    Raises InputError SS204 (missing, unreadable or too short) or SS212 (labels, images).
    """
    if texts is None and (samples := _load_chosen_samples(data, task, directory, role)) is not None:
        return samples
    if task.data == "image":
        samples = image_samples(data, directory, role)
        if directory is not None:
            check_image_size(samples, directory, role)
        return samples
    assert directory is not None
    samples = _text_samples(data, task, load_tokenizer(directory), role, texts)
    check_vocabulary(samples, directory, role)
    return samples


def _text_samples(data: DataConfig, task: Task, tokenizer: Any, role: str, texts: Iterable[Any] | None) -> Samples:
    if task.name == "text-classes" and role != "calibration" and texts is None:
        # Statistics are collected over whole windows, without padding.
        documents = labelled_documents(data, tokenizer, role)
        if documents is not None:
            return documents
    windows = token_windows(data, tokenizer, role, texts)
    if task.data == "pair":
        # The decoder's text continues the encoder's.
        half = windows.shape[1] // 2
        return Samples({"input_ids": windows[:, :half], "decoder_input_ids": windows[:, half:]})
    if task.special and tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None:
        windows = windows.copy()
        windows[:, 0], windows[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    return Samples({"input_ids": windows})


def check_documents(texts: Iterable[Any], role: str) -> Iterator[str]:
    """Yield documents passed in Python; raises InputError SS204 for one that is not a string."""
    for document in texts:
        if not isinstance(document, str):
            raise problem("SS204", f"{role} data: documents must be strings, got {type(document).__name__}.")
        yield document


def documents_of(data: DataConfig, role: str, piece: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Yield the documents of all sources; of files of text, pieces of about `piece` characters."""
    for source in sources_of(data):
        if is_table(source):
            yield from (text for text, _ in texts_of(source, data, role))
        elif source.startswith(STDLIB):
            split = source.removeprefix(STDLIB)
            if split not in corpus.SPLITS:
                allowed = ", ".join(corpus.SPLITS)
                raise problem("SS204", f"{role} data: stdlib split {split!r} is not one of {allowed}.")
            yield from corpus.documents(cast(corpus.Split, split))
        else:
            yield from join_lines(text_lines(source, role), piece)
