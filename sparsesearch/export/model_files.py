"""The files of a candidate's model: weights, configuration, tokenizer, code."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sparsesearch.data.images import PREPROCESSOR
from sparsesearch.engine.reopen import ReopenedRun
from sparsesearch.export import verify_in_process
from sparsesearch.export.forms.graphs import GRAPHS
from sparsesearch.export.forms.graphs import save as save_graph
from sparsesearch.export.forms.registry import FORMS, stock_classes
from sparsesearch.export.loading import STATE
from sparsesearch.export.verification import verification_samples
from sparsesearch.models import load_tokenizer
from sparsesearch.models.checkpoint import TensorTypes
from sparsesearch.models.source import Checkpoint, Factory, ModuleSource, Source
from sparsesearch.searchers import Evaluation
from sparsesearch.supernet import StitchedSupernet

# Files of a checkpoint that are copied unchanged: how it generates, and how its outputs are pooled.
COPIED = (
    "generation_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)


def write_model_files(
    form: str, work: Path, reopened: ReopenedRun, candidate: Evaluation, correct_statistics: bool
) -> dict[str, Any]:
    """Write weights, configuration, tokenizer and code of a candidate in a form.

    Args:
        form: name in `FORMS`.
        work: directory to write into.
        correct_statistics: whether the means and variances of batch normalisations are measured on the candidate.

    Returns:
        `more`: fields of the manifest that `sparsesearch.load` needs; for a graph also `params` and `nonzeros`.
    """
    supernet, genome, task = reopened.supernet, candidate.genome, reopened.supernet.network.task
    model = FORMS[form].plan(supernet, genome)()
    if correct_statistics:
        reopened.norms.correct(model, genome)
    if form in GRAPHS:
        inputs = verification_samples(reopened.results.run).inputs(model)
        names = save_graph(form, model, task, inputs, work / GRAPHS[form])
        if reopened.launch.source.directory is not None:
            _copy_other_files(reopened, work)
        length = supernet.network.max_length
        return verify_in_process.counts(model) | {"more": {"inputs": names, "max_length": length}}
    if isinstance(reopened.launch.source, Checkpoint):
        _convert_to_types(model, reopened.launch.source.types).save_pretrained(work)
        for name, text in (FORMS[form].code or _no_code)(supernet).items():
            (work / name).write_text(text)
        _copy_other_files(reopened, work)
        return {"more": {"classes": stock_classes(supernet)}}
    # Tied weights are written once a name: the format refuses shared memory.
    save_file(_copy_in_own_types(model.state_dict(), reopened.launch.source), work / STATE)
    changes = supernet.surgery(genome) if form == "uneven" else None
    return {"more": {"factory": getattr(reopened.launch.source, "name", None), "surgery": changes}}


def _convert_to_types(model: Any, types: TensorTypes) -> Any:
    """Convert each tensor of a model to its type in the checkpoint, such as float32 for a router's bias; return it."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(types.of(name))
    return model


def _copy_in_own_types(state: dict[str, torch.Tensor], source: Source) -> dict[str, torch.Tensor]:
    """Copy tensors in their types in the dense module; new biases in the type of its weights."""
    assert isinstance(source, (ModuleSource, Factory))
    types = source.types
    return {name: t.to(types.get(name, source.storage), copy=True).contiguous() for name, t in state.items()}


def _no_code(_: StitchedSupernet) -> dict[str, str]:
    return {}


def _copy_other_files(reopened: ReopenedRun, work: Path) -> None:
    """Copy tokenizer or image processor, generation options and pooling modules of the dense checkpoint."""
    source = reopened.launch.source.directory
    assert source is not None
    for name in (*COPIED, *_modules(source)):
        if (source / name).is_file():
            (work / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, work / name)
    if reopened.supernet.network.task.data != "image":
        load_tokenizer(source).save_pretrained(work)
    elif (source / PREPROCESSOR).is_file():
        shutil.copy(source / PREPROCESSOR, work / PREPROCESSOR)


def _modules(source: Path) -> list[str]:
    """Return the files of sentence-transformers' modules behind the network, which its `modules.json` lists."""
    try:
        modules = json.loads((source / COPIED[1]).read_text())
        names = [str(module["path"]) for module in modules]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    directories = [source / name for name in names if re.fullmatch(r"[0-9]+_\w+", name)]
    return [
        f"{directory.name}/{file.name}"
        for directory in directories
        if directory.is_dir()
        for file in sorted(directory.iterdir())
        if file.suffix in (".json", ".safetensors")
    ]
