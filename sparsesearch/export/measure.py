"""Perplexity or accuracy of any model directory, hub id, export or candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from sparsesearch.calibration import Samples
from sparsesearch.calibration.documents import labelled_documents
from sparsesearch.calibration.images import image_batches
from sparsesearch.calibration.tables import is_table, rows_of
from sparsesearch.config import DataConfig, ImageConfig, ModelConfig
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.results import RunResults
from sparsesearch.errors import InputError
from sparsesearch.evaluation import accuracy, perplexity
from sparsesearch.export.graphs import Graph
from sparsesearch.export.loading import MANIFEST, load, manifest
from sparsesearch.export.verify import counts
from sparsesearch.export.write import open_run
from sparsesearch.models import load_tokenizer
from sparsesearch.models.source import open_source
from sparsesearch.models.task import TASKS, Task


@dataclass(frozen=True)
class Target:
    """A float32 model, what it is for, where its tokenizer or image settings lie, and how it was shown images."""

    model: Any
    task: Task
    directory: Path | None
    image: ImageConfig | None = None

    def report(self) -> dict[str, int]:
        if isinstance(self.model, Graph):  # whose weights may be folded into others
            return self.model.counts
        return counts(self.model)


def open_target(target: str) -> Target:
    """What a directory, an export, a hub id, a factory, `demo`, or RUN/ID names; raises InputError SS504 for a run."""
    path = Path(target).expanduser()
    if (path / MANIFEST).is_file():
        told = manifest(path)
        image = told["image"] and ImageConfig(**told["image"])
        return Target(load(path, torch.float32), TASKS[told["task"]], path, image)
    if not path.exists() and (path.parent / "run.yaml").is_file():
        results = RunResults(path.parent)
        opened = open_run(results)
        genome = results.find(path.name).genome
        model = opened.supernet.materialise(genome)
        opened.norms.correct(model, genome)
        return Target(model, opened.source.task, opened.source.directory, opened.image)
    if (path / "run.yaml").is_file():
        raise InputError("SS504", f"{path} is a run.", f"Name a candidate, as {path}/ID. See: sparsesearch front")
    source = open_source(ModelConfig(id=target))
    return Target(source.load(torch.float32, "cpu"), source.task, source.directory)


def evaluate_text(target: str, text: Path, length: int, first: int | None, batch: int) -> dict[str, Any]:
    """What a model makes of a text, with `{params, nonzeros, length}`.

    Args:
        text: a text file for a language model; a .parquet file with columns `text` and `label` for a classifier.
        first: windows or documents to take; all where None.

    Returns:
        `{perplexity, tokens}` of a language model, `{accuracy, documents}` of a classifier.

    Raises InputError SS204 (text unfit), SS504 (neither of these models).
    """
    logging.disable_progress_bar()
    opened = open_target(target)
    if opened.task.name not in ("causal", "text-classes") or opened.directory is None:
        raise InputError("SS504", f"{target} is neither a causal language model nor a classifier of texts.", _OTHER)
    positions = opened.model.config.max_position_embeddings
    if length > positions:
        raise InputError("SS204", f"--length {length} exceeds the model's {positions} positions.", "Lower --length.")
    if opened.task.name == "text-classes":
        samples = _documents(text, load_tokenizer(opened.directory), length, first)
        value = accuracy(opened.model, opened.task, samples, batch)
        return {"accuracy": value, "documents": len(samples), "length": length} | opened.report()
    tokens = text_windows(load_tokenizer(opened.directory), text, length)[:first]
    with _progress("perplexity", len(tokens)) as step:
        value = perplexity(opened.model, tokens, batch, step)
    return {"perplexity": value, "tokens": int(tokens.size), "length": length} | opened.report()


def evaluate_images(target: str, images: str, first: int | None, batch: int) -> dict[str, Any]:
    """`{accuracy, images, params, nonzeros}` of a classifier on labelled images.

    Args:
        images: a folder with a folder for each class, a Parquet file, or `datasets:ID`, as in a recipe.

    Raises InputError SS204 (images missing, without classes, or of unknown size), SS504 (no classifier of images).
    """
    logging.disable_progress_bar()
    opened = open_target(target)
    if opened.task.data != "image" or "error" not in opened.task.qualities:
        raise InputError("SS504", f"{target} is no classifier of images; accuracy is for those.", _OTHER)
    data, right, seen = DataConfig(source=images, take="first", image=opened.image), 0.0, 0
    with _progress("accuracy", first) as step:
        for samples in image_batches(data, opened.directory, "--images", batch):
            if samples.labels is None:
                raise InputError(
                    "SS204", f"{images}: images have no class.", "Give a folder for each class, or labels."
                )
            samples = samples.rows(slice(0, None if first is None else first - seen))
            right += accuracy(opened.model, opened.task, samples, batch) * len(samples)
            seen += len(samples)
            step(seen)
            if seen == first:
                break
    return {"accuracy": round(right) / seen, "images": seen} | opened.report()


def _documents(table: Path, tokenizer: Any, length: int, first: int | None) -> Samples:
    count = first or sum(1 for _ in rows_of(str(table), "--text"))
    data = DataConfig(source=str(table), sequences=count, length=length, take="first")
    samples = labelled_documents(data, tokenizer, "--text") if is_table(str(table)) else None
    if samples is None:
        raise InputError("SS204", f"{table} has no documents with classes.", "Give a .parquet file: text, label.")
    return samples


_OTHER = "Language models take --text, classifiers --text with a table or --images."


@contextmanager
def _progress(phase: str, total: int | None) -> Iterator[Callable[[int], None]]:
    reporter = Reporter()
    reporter.phase(phase, total)
    yield reporter.step
    reporter.end()


def text_windows(tokenizer: Any, text: Path, length: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """All whole windows of a text file."""
    try:
        ids = tokenizer(text.read_text(encoding="utf-8"), add_special_tokens=False, verbose=False)["input_ids"]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError("SS204", f"cannot read {text}: {reason}.") from None
    count = len(ids) // length
    if count == 0:
        raise InputError(
            "SS204", f"{text} has {len(ids)} tokens, fewer than one window of {length}.", "Lower --length."
        )
    return np.asarray(ids[: count * length], dtype=np.int32).reshape(count, length)
