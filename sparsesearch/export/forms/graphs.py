"""Candidates as graphs: ONNX and torch.export programs. They have no classes, no surgery and no KV cache."""

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
# Samples in the batch that is traced; verified with another number.
TRACED_BATCH = 3


def check_packages(form: str) -> None:
    """Raise EnvironmentProblem SS307 where a package that the form needs is not there."""
    missing = [name for name in PACKAGES[form] if importlib.util.find_spec(name) is None]
    if form == "onnx" and TRANSFORMERS < (5, 24):  # whose exporter is another one
        missing.append("transformers 5.24")
    if missing:
        raise problem(
            "SS307",
            f"form {form} needs {', '.join(missing)}, which is not installed.",
            fix='pip install "sparsesearch[onnx]"',
        )


def graph_inputs(task: Task, samples: Inputs) -> Inputs:
    """What a graph is given for samples: text has a mask; by default one that takes the last token for padding."""
    if task.data == "image" or "attention_mask" in samples:
        return samples
    mask = torch.ones_like(samples["input_ids"])
    mask[-1, -1] = 0
    return samples | {"attention_mask": mask}


def save(form: str, model: nn.Module, task: Task, samples: Inputs, path: Path) -> list[str]:
    """Trace a model (float32) and write its graph; names of the inputs, in order.

    Args:
        samples: two samples at least; the traced ones are of another number and, for text, of another length.

    Raises SparseSearchError SS507 where it cannot be traced.
    """
    inputs = graph_inputs(task, _traced(task, samples))
    text = task.data != "image"
    axes = {0: torch.export.Dim.DYNAMIC} | ({1: torch.export.Dim.DYNAMIC} if text else {})
    dynamic = dict.fromkeys(inputs, axes)
    try:
        with _quietly(), torch.no_grad():
            if form == "onnx":
                _save_onnx(model, inputs, dynamic, path)
            else:
                held = io.BytesIO()  # where the disk is full, torch's own writing ends the process
                torch.export.save(_program(model, inputs, dynamic), held)
                path.write_bytes(held.getbuffer())
    except Exception as error:  # whatever tracing and converting raise
        if machine_problem(error) is not None:
            raise
        raise problem(
            "SS507",
            f"the candidate cannot be traced for form {form}: {type(error).__name__}: {first_line(error)}.",
            fix="Choose another --form.",
        ) from error
    return list(inputs)


def _traced(task: Task, samples: Inputs) -> Inputs:
    """The first sample, as often as is traced; text without its last token."""
    found = {name: tensor[:1].repeat(TRACED_BATCH, *[1] * (tensor.ndim - 1)) for name, tensor in samples.items()}
    if task.data == "image":
        return found
    return {name: tensor[:, :-1].contiguous() for name, tensor in found.items()}


class _Bare(nn.Module):
    """A transformers model with tensors in, by name, and one tensor out."""

    def __init__(self, model: Any, names: Iterable[str]) -> None:
        super().__init__()
        self.model, self.names = model, list(names)
        # Tracing wants arguments with names, not a dictionary of them.
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward: Any = functools.partial(self._run)
        forward.__signature__ = inspect.Signature([inspect.Parameter(name, keyword) for name in self.names])
        self.forward = forward

    def _run(self, *given: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        found = self.model(**dict(zip(self.names, given, strict=False)), **named)
        outputs: torch.Tensor = found.logits if "logits" in found else found.last_hidden_state
        return outputs


def _program(model: nn.Module, inputs: Inputs, dynamic: dict[str, Any]) -> torch.export.ExportedProgram:
    if not isinstance(model, PreTrainedModel):
        return torch.export.export(model, tuple(inputs.values()), dynamic_shapes=tuple(dynamic.values()))
    with _without_cache(model):
        return torch.export.export(_Bare(model, inputs), (), inputs, dynamic_shapes=dynamic, strict=False)


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
    """No cache among the outputs, and experts as plain batched products, which need no operator of transformers."""
    before = getattr(model.config, "use_cache", None)
    model.config.use_cache = False
    if getattr(model, "_can_set_experts_implementation", lambda: False)():
        model.set_experts_implementation("batched_mm")
    try:
        yield
    finally:
        model.config.use_cache = before


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Exporters print their progress and warn of packages that nothing here needs."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


class Graph(nn.Module):
    """A loaded graph, called as the model was; its outputs have the same name."""

    def __init__(self, directory: Path, told: dict[str, Any]) -> None:
        """
        Args:
            told: the export's manifest.

        Raises EnvironmentProblem SS307.
        """
        super().__init__()
        form = told["form"]
        check_packages(form)
        self.names: list[str] = told["inputs"]
        self.counts: dict[str, int] = {name: told[name] for name in ("params", "nonzeros")}
        self.embeds = told["task"].endswith("embedding")
        self.own = told["task"] == "module"
        self.anchor = nn.Parameter(torch.empty(0), requires_grad=False)  # says the device and type of inputs
        self.config = SimpleNamespace(max_position_embeddings=told["max_length"])
        path = directory / GRAPHS[form]
        # No submodule: an exported program refuses eval().
        self.run = _onnx_session(path) if form == "onnx" else torch.export.load(path).module().__call__

    def forward(self, *inputs: torch.Tensor, **named: Any) -> Any:
        """Outputs of transformers' kind, or of a module of one's own its tensor; text may come without a mask."""
        given = dict(zip(self.names, inputs, strict=False)) | {k: v for k, v in named.items() if k in self.names}
        if "attention_mask" in self.names and "attention_mask" not in given:
            given["attention_mask"] = torch.ones_like(given["input_ids"])
        ordered = {name: given[name] for name in self.names}
        if self.own:
            return self.run(*ordered.values())
        outputs = self.run(**ordered)
        return BaseModelOutput(last_hidden_state=outputs) if self.embeds else CausalLMOutput(logits=outputs)


def _onnx_session(path: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = [i.name for i in session.get_inputs()]

    def run(*given: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        tensors = dict(zip(inputs, given, strict=True)) if given else {n: named[n] for n in inputs}
        outputs: np.ndarray[Any, Any] = session.run(None, {n: t.numpy() for n, t in tensors.items()})[0]
        return torch.from_numpy(outputs)

    return run
