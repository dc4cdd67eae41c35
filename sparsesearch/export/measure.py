"""Perplexity of any model directory, hub id, export or candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from sparsesearch.config import ModelConfig
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.results import RunResults
from sparsesearch.errors import InputError
from sparsesearch.evaluation import perplexity
from sparsesearch.export.loading import MANIFEST, load
from sparsesearch.export.write import open_run
from sparsesearch.models import load_tokenizer
from sparsesearch.models.source import Source, open_source


def open_target(target: str) -> tuple[Any, Any]:
    """A float32 model and its tokenizer from a directory, an export, a hub id, `demo`, or RUN/ID."""
    path = Path(target).expanduser()
    if (path / MANIFEST).is_file():
        return load(path, torch.float32), load_tokenizer(path)
    if not path.exists() and (path.parent / "run.yaml").is_file():
        results = RunResults(path.parent)
        opened = open_run(results)
        genome = results.find(path.name).genome
        return opened.finish(opened.supernet.materialise(genome), genome), load_tokenizer(
            _directory(opened.source, path)
        )
    if (path / "run.yaml").is_file():
        raise InputError("SS504", f"{path} is a run.", f"Name a candidate, as {path}/ID. See: sparsesearch front")
    source = open_source(ModelConfig(id=target))
    return source.load(torch.float32, "cpu"), load_tokenizer(_directory(source, path))


def _directory(source: Source, target: Path) -> Path:
    if source.directory is None or source.task.name != "causal":
        raise InputError("SS504", f"{target} is no language model; perplexity is for those.")
    return source.directory


def evaluate_text(target: str, text: Path, length: int, windows: int | None, batch: int) -> dict[str, Any]:
    """`{perplexity, tokens, params, nonzeros, length}` of a model on a text file; raises InputError SS204."""
    logging.disable_progress_bar()
    model, tokenizer = open_target(target)
    positions = model.config.max_position_embeddings
    if length > positions:
        raise InputError("SS204", f"--length {length} exceeds the model's {positions} positions.", "Lower --length.")
    tokens = text_windows(tokenizer, text, length)[:windows]
    reporter = Reporter()
    reporter.phase("perplexity", len(tokens))
    value = perplexity(model, tokens, batch, reporter.step)
    reporter.end()
    return {
        "perplexity": value,
        "tokens": int(tokens.size),
        "params": sum(p.numel() for p in model.parameters()),
        "nonzeros": sum(int(torch.count_nonzero(p)) for p in model.parameters()),
        "length": length,
    }


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
