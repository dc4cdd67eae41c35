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
from sparsesearch.data.sources import PIECE, document_pieces, existing, pieces, text_lines
from sparsesearch.data.tables import ENDLESS, HUB, is_table, sources_of, texts_of
from sparsesearch.demo import corpus
from sparsesearch.errors import DISK_FULL_ERRNOS, InputError, SparseSearchError, first_line, machine_problem, problem
from sparsesearch.files import load_json
from sparsesearch.models.load import dense_config, load_tokenizer, meta_model
from sparsesearch.models.task import Task

# In a directory that `sparsesearch choose` wrote: how its samples were chosen.
CHOICE = "choice.json"
STDLIB = "stdlib:"
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
    documents = documents_of(data, role) if texts is None else given_documents(texts, role)
    # All tokens of a text may be more than memory holds.
    with _temporary_file() as file:
        found = 0
        for ids in token_ids(documents, tokenizer, role):
            found += len(ids)
            file.write(ids.tobytes())
            if enough is not None and found >= enough:
                break
        available = found // data.length
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
    """A file that is gone afterwards; raises EnvironmentProblem SS305 if its disk is full."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:  # also when what is left in memory is written at last
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise machine_problem(error, f"cannot write to {tempfile.gettempdir()}") or error from None


def token_ids(documents: Iterable[str], tokenizer: Any, role: str) -> Iterator[Tokens]:
    """The tokens of each document without added special tokens; of a long one, of its pieces."""
    for text in itertools.chain.from_iterable(map(document_pieces, documents)):
        try:
            ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        except (UnicodeError, TypeError) as error:  # half a character, as JSON can have
            raise problem("SS204", f"{role} data: a document cannot be tokenised: {first_line(error)}.") from None
        yield np.asarray(ids, dtype=np.int32)


def check_vocabulary(samples: Samples, directory: Path, role: str) -> None:
    """Raise InputError SS204 where the tokenizer is another model's, with tokens that this one has no embedding of."""
    try:
        known = getattr(dense_config(directory).get_text_config(), "vocab_size", None)
    except InputError:  # code of its own would have to run
        return
    largest = max(int(a.max()) for a in samples.arrays.values() if a.dtype.kind in "iu")
    if known is not None and largest >= known:
        raise problem(
            "SS204",
            f"{role} data: the tokenizer gives token {largest:,}, and the model has {known:,} tokens.",
            fix=f"Put the model's own tokenizer into {directory}.",
        )


def check_image_size(samples: Samples, directory: Path, role: str) -> None:
    """Raise InputError SS204 where images have a size that the model cannot take."""
    try:
        model = meta_model(dense_config(directory))
    except InputError:  # code of its own would have to run
        return
    shape = samples.arrays["pixel_values"].shape[1:]
    try:
        model(torch.empty(1, *shape, device="meta"))
    except (ValueError, RuntimeError) as error:
        raise problem(
            "SS204",
            f"{role} data: the model cannot take images of shape {shape}: {first_line(error)}.",
            fix="Set image.size of these data to the model's, or mend its preprocessor_config.json.",
        ) from None


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
    if len(sources) != 1 or sources[0].startswith((HUB, STDLIB)):
        return None
    directory = existing(sources[0], role)
    if not (directory / CHOICE).is_file():
        return None
    choice = load_json(directory / CHOICE, lambda reason: _damaged(directory, role, reason))
    if choice.get("fits") != fits(task, model):
        raise problem(
            "SS204",
            f"{role} data ({directory}) were chosen for another kind of model or another tokenizer.",
            fix="Choose again, with this model.",
        )
    found = Samples.load(directory)
    if (len(found) < data.sequences and not data.fewer) or found.length not in (data.length, 1):
        raise problem(
            "SS204",
            f"{role} data ({directory}) has {len(found)} samples of {found.length}, wanted are "
            f"{data.sequences} of {data.length}.",
            fix=f"Set data.{role}.sequences and data.{role}.length to what it has.",
        )
    return found.rows(slice(0, data.sequences))


def _damaged(directory: Path, role: str, reason: str) -> SparseSearchError:
    return problem("SS204", f"{role} data: {directory / CHOICE} is damaged: {reason.rstrip('.')}.", fix="Choose again.")


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
        found = image_samples(data, directory, role)
        if directory is not None:
            check_image_size(found, directory, role)
        return found
    assert directory is not None
    found = _text_samples(data, task, load_tokenizer(directory), role, given)
    check_vocabulary(found, directory, role)
    return found


def _text_samples(data: DataConfig, task: Task, tokenizer: Any, role: str, given: Iterable[Any] | None) -> Samples:
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


def given_documents(texts: Iterable[Any], role: str) -> Iterator[str]:
    """Documents from Python; raises InputError SS204 for what is no string."""
    for document in texts:
        if not isinstance(document, str):
            raise problem("SS204", f"{role} data: documents are strings, got {type(document).__name__}.")
        yield document


def documents_of(data: DataConfig, role: str, piece: int = PIECE) -> Iterator[str]:
    """The documents of all sources; of files of text, pieces of about `piece` characters."""
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
            yield from pieces(text_lines(source, role), piece)
