"""Exports candidates as graphs, ONNX or torch.export programs, and runs them. They have no KV cache."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import io
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from sparsesearch.errors import first_line, machine_problem, problem
from sparsesearch.models.task import Task

Inputs = dict[str, torch.Tensor]

GRAPHS = {"onnx": "model.onnx", "torch_export": "model.pt2"}
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch_export": ()}
TRANSFORMERS = tuple(map(int, transformers.__version__.split(".")[:2]))
# Samples in the traced batch; verification uses another number.
TRACED_BATCH = 3


def check_packages(form: str) -> None:
    """Raise EnvironmentProblem SS307 if a package that the form needs is not installed."""
    missing = [name for name in PACKAGES[form] if importlib.util.find_spec(name) is None]
    if form == "onnx" and TRANSFORMERS < (5, 24):  # earlier versions have a different exporter
        missing.append("transformers 5.24")
    if missing:
        raise problem(
            "SS307",
            f"form {form} needs {', '.join(missing)}, which is not installed.",
            fix='pip install "sparsesearch[onnx]"',
        )


def graph_inputs(task: Task, samples: Inputs) -> Inputs:
    """Return the inputs of a graph for samples; text without a mask gets one that marks the last token as padding."""
    if task.data == "image" or "attention_mask" in samples:
        return samples
    mask = torch.ones_like(samples["input_ids"])
    mask[-1, -1] = 0
    return samples | {"attention_mask": mask}


def save(form: str, model: nn.Module, task: Task, samples: Inputs, path: Path) -> list[str]:
    """Trace a model (float32) and write its graph; return the names of its inputs, in order.

    Args:
        samples: inputs of the model, (samples, ...) each; traced with another number and, for text, another length.

    Raises SparseSearchError SS507 if it cannot be traced.
    """
    inputs = graph_inputs(task, _traced_batch(task, samples))
    text = task.data != "image"
    axes = {0: torch.export.Dim.DYNAMIC} | ({1: torch.export.Dim.DYNAMIC} if text else {})
    dynamic = dict.fromkeys(inputs, axes)
    try:
        with _silence(), torch.no_grad():
            if form == "onnx":
                _save_onnx(model, inputs, dynamic, path)
            else:
                buffer = io.BytesIO()  # on a full disk, torch's own writing ends the process
                torch.export.save(_program(model, inputs, dynamic), buffer)
                path.write_bytes(buffer.getbuffer())
    except Exception as error:  # tracing and converting raise many types
        if machine_problem(error) is not None:
            raise
        raise problem(
            "SS507",
            f"the candidate cannot be traced for form {form}: {type(error).__name__}: {first_line(error)}.",
            fix="Choose another form (--form).",
        ) from error
    return list(inputs)


def _traced_batch(task: Task, samples: Inputs) -> Inputs:
    """Return the traced batch: the first sample repeated; text without its last token."""
    batch = {name: tensor[:1].repeat(TRACED_BATCH, *[1] * (tensor.ndim - 1)) for name, tensor in samples.items()}
    if task.data == "image":
        return batch
    return {name: tensor[:, :-1].contiguous() for name, tensor in batch.items()}


class _TensorModel(nn.Module):
    """A transformers model whose inputs are named tensors and whose output is one tensor."""

    def __init__(self, model: Any, names: Iterable[str]) -> None:
        super().__init__()
        self.model, self.names = model, list(names)
        # Tracing needs named arguments, not a dictionary of them.
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward: Any = functools.partial(self._run)
        forward.__signature__ = inspect.Signature([inspect.Parameter(name, keyword) for name in self.names])
        self.forward = forward

    def _run(self, *positional: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        outputs = self.model(**dict(zip(self.names, positional, strict=False)), **named)
        tensor: torch.Tensor = outputs.logits if "logits" in outputs else outputs.last_hidden_state
        return tensor


def _program(model: nn.Module, inputs: Inputs, dynamic: dict[str, Any]) -> torch.export.ExportedProgram:
    if not isinstance(model, PreTrainedModel):
        return torch.export.export(model, tuple(inputs.values()), dynamic_shapes=tuple(dynamic.values()))
    with _without_cache(model):
        return torch.export.export(_TensorModel(model, inputs), (), inputs, dynamic_shapes=dynamic, strict=False)


def _save_onnx(model: nn.Module, inputs: Inputs, dynamic: dict[str, Any], path: Path) -> None:
    if isinstance(model, PreTrainedModel):
        from transformers.exporters import OnnxConfig, OnnxExporter

        with _without_cache(model):
            exported = OnnxExporter().export(model, inputs, config=OnnxConfig(dynamic=True, dynamic_shapes=dynamic))
        OnnxExporter.save_program(exported.program, path)
        return
    program = torch.onnx.export(
        model,
        tuple(inputs.values()),
        dynamo=True,
        input_names=list(inputs),
        output_names=["logits"],
        dynamic_shapes=tuple(dynamic.values()),
        verbose=False,
    )
    assert program is not None
    program.save(path, external_data=True)


@contextlib.contextmanager
def _without_cache(model: Any) -> Iterator[None]:
    """Switch the cache off, and compute experts as plain batched products, without transformers' own operators."""
    before = getattr(model.config, "use_cache", None)
    model.config.use_cache = False
    if getattr(model, "_can_set_experts_implementation", lambda: False)():
        model.set_experts_implementation("batched_mm")
    try:
        yield
    finally:
        model.config.use_cache = before


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress the exporters' progress, and their warnings about packages that are not needed."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


class Graph(nn.Module):
    """A loaded graph, called like the exported model; its outputs have the same name."""

    def __init__(self, directory: Path, manifest: dict[str, Any]) -> None:
        """Raises EnvironmentProblem SS307 if a package that the graph needs is not installed."""
        super().__init__()
        form = manifest["form"]
        check_packages(form)
        self.names: list[str] = manifest["inputs"]
        self.counts: dict[str, int] = {name: manifest[name] for name in ("params", "nonzeros")}
        self.embeds = manifest["task"].endswith("embedding")
        self.is_module = manifest["task"] == "module"
        # Callers take the device and type of inputs from the first parameter.
        self.anchor = nn.Parameter(torch.empty(0), requires_grad=False)
        self.config = SimpleNamespace(max_position_embeddings=manifest["max_length"])
        path = directory / GRAPHS[form]
        # Not a submodule, since an exported program refuses eval().
        self.run = _onnx_session(path) if form == "onnx" else torch.export.load(path).module().__call__

    def forward(self, *inputs: torch.Tensor, **named: Any) -> Any:
        """Run the graph; text may come without a mask.

        Args:
            inputs, named: inputs of the exported model, (samples, ...) each.

        Returns:
            Outputs of a transformers model with `logits` or `last_hidden_state`; for a user's module its tensor.
        """
        tensors = dict(zip(self.names, inputs, strict=False)) | {k: v for k, v in named.items() if k in self.names}
        if "attention_mask" in self.names and "attention_mask" not in tensors:
            tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
        ordered = {name: tensors[name] for name in self.names}
        if self.is_module:
            return self.run(*ordered.values())
        outputs = self.run(**ordered)
        return BaseModelOutput(last_hidden_state=outputs) if self.embeds else CausalLMOutput(logits=outputs)


def _onnx_session(path: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = [i.name for i in session.get_inputs()]

    def run(*positional: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        tensors = dict(zip(inputs, positional, strict=True)) if positional else {n: named[n] for n in inputs}
        outputs: np.ndarray[Any, Any] = session.run(None, {n: t.numpy() for n, t in tensors.items()})[0]
        return torch.from_numpy(outputs)

    return run
