"""Perplexity or accuracy of any model directory, hub id, export or candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.config import DataConfig
from sparsesearch.config.base import LONGEST
from sparsesearch.data import Samples
from sparsesearch.data.documents import labelled_documents
from sparsesearch.data.images import image_batches
from sparsesearch.data.sources import MAX_DOCUMENT_CHARACTERS
from sparsesearch.data.text import check_vocabulary, documents_of, token_ids
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.errors import first_line, problem
from sparsesearch.evaluation import accuracy, perplexity
from sparsesearch.export.measuring.evaluated_model import open_target
from sparsesearch.models import load_tokenizer
from sparsesearch.runs.progress import Reporter


def evaluate_text(
    target: str, text: Path, length: int, first: int | None, batch: int, access: Access = UNTRUSTED
) -> dict[str, Any]:
    """Measure a model on a text.

    Args:
        text: a text file or a table for a language model; a table with columns `text` and `label` for a classifier.
        first: number of windows or documents to take; None: all.

    Returns:
        `{perplexity, tokens}` of a language model, `{accuracy, documents}` of a classifier, and
        `{params, nonzeros, length}`.

    Raises InputError SS204 (unsuitable text), SS504 (neither of these models).
    """
    opened = open_target(target, access)
    if opened.task.name not in ("causal", "text-classes") or opened.directory is None:
        raise problem("SS504", f"{target} is neither a causal language model nor a classifier of texts.", fix=_OTHER)
    positions = opened.model.config.max_position_embeddings
    if length > positions:
        raise problem(
            "SS204", f"length {length} exceeds the model's {positions} positions.", fix="Lower length (--length)."
        )
    if opened.task.name == "text-classes":
        samples = _documents(text, load_tokenizer(opened.directory), length, first)
        check_vocabulary(samples, opened.directory, "--text")
        value = accuracy(opened.model, opened.task, samples, batch)
        return {"accuracy": value, "documents": len(samples), "length": length} | opened.report()
    tokens = text_windows(load_tokenizer(opened.directory), text, length)[:first]
    check_vocabulary(Samples({"input_ids": tokens}), opened.directory, "--text")
    with _progress("perplexity", len(tokens)) as step:
        value = perplexity(opened.model, tokens, batch, step)
    return {"perplexity": value, "tokens": int(tokens.size), "length": length} | opened.report()


def evaluate_images(
    target: str, images: str, first: int | None, batch: int, access: Access = UNTRUSTED
) -> dict[str, Any]:
    """Measure a classifier on labelled images; returns `{accuracy, images, params, nonzeros}`.

    Args:
        images: a folder with a folder for each class, a Parquet file, or `datasets:ID`, as in a recipe.

    Raises InputError SS204 (images missing, without classes, or of unknown size), SS504 (not an image classifier).
    """
    opened = open_target(target, access)
    if opened.task.data != "image" or not opened.task.classifies:
        raise problem("SS504", f"{target} is no classifier of images; accuracy is for those.", fix=_OTHER)
    data, correct, count = DataConfig(source=images, take="first", image=opened.image), 0.0, 0
    with _progress("accuracy", first) as step:
        for samples in image_batches(data, opened.directory, "--images", batch):
            if samples.labels is None:
                raise problem(
                    "SS204", f"{images}: images have no class.", fix="Give a folder for each class, or labels."
                )
            samples = samples.rows(slice(0, None if first is None else first - count))
            try:
                correct += accuracy(opened.model, opened.task, samples, batch) * len(samples)
            except ValueError as error:  # images of another size
                reason = f"{target} cannot take the images as they are prepared: {first_line(error)}."
                raise problem("SS204", reason, fix="Correct its preprocessor_config.json.") from None
            count += len(samples)
            step(count)
            if count == first:
                break
    return {"accuracy": round(correct) / count, "images": count} | opened.report()


def _documents(table: Path, tokenizer: Any, length: int, first: int | None) -> Samples:
    data = DataConfig(source=str(table), sequences=first or LONGEST, fewer=True, length=length, take="first")
    samples = labelled_documents(data, tokenizer, "--text")
    if samples is None:
        raise problem("SS204", f"{table} has no documents with classes.", fix="Give a table with columns text, label.")
    return samples


_OTHER = (
    "Language models take text (--text), classifiers of texts a table as text, classifiers of images images (--images)."
)


@contextmanager
def _progress(phase: str, total: int | None) -> Iterator[Callable[[int], None]]:
    reporter = Reporter()
    reporter.phase(phase, total)
    yield reporter.step
    reporter.end()


def text_windows(tokenizer: Any, text: Path, length: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return all complete windows (windows, length) of a text file or table; raises InputError SS204 if unusable."""
    documents = documents_of(DataConfig(source=str(text)), "--text", MAX_DOCUMENT_CHARACTERS)
    pieces = list(token_ids(documents, tokenizer, "--text"))
    ids = np.concatenate([*pieces, np.empty(0, dtype=np.int32)])
    count = len(ids) // length
    if count == 0:
        raise problem(
            "SS204", f"{text} has {len(ids)} tokens, fewer than one window of {length}.", fix="Lower length (--length)."
        )
    return ids[: count * length].reshape(count, length)
