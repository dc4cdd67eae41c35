"""The task of a network: its inputs, its outputs, and the qualities that candidates can be judged by."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from transformers import PretrainedConfig

from sparsesearch.errors import problem

Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Task:
    """A kind of network.

    Attributes:
        auto_class: name of the Auto class of transformers that loads it; empty for a user's module.
        data: kind of sample: a window of `tokens`, a `pair` of windows (encoder, decoder), or an `image`.
        call: runs a model on a batch of inputs and returns its outputs, (samples, positions, values) float32.
        pooled: whether a whole sample has one position.
        special: whether windows start and end with the tokenizer's special tokens.
    """

    name: str
    auto_class: str
    data: Literal["tokens", "pair", "image"]
    call: Callable[[Any, Inputs], torch.Tensor]
    pooled: bool = False
    special: bool = False

    @property
    def generates(self) -> bool:
        """Whether it is a causal language model."""
        return self.name == "causal"

    @property
    def classifies(self) -> bool:
        """Whether its loss needs labels."""
        return self.name in ("text-classes", "image-classes", "module")

    @property
    def embeds(self) -> bool:
        """Whether it has no head, and therefore neither a loss nor a distribution."""
        return self.name.endswith("embedding")


def _without_cache(model: Any) -> dict[str, bool]:
    """Return the argument that switches the KV cache off, if the model has it."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


def _logits(model: Any, inputs: Inputs) -> torch.Tensor:
    logits: torch.Tensor = model(**inputs, **_without_cache(model)).logits
    return logits.float()


def _classes(model: Any, inputs: Inputs) -> torch.Tensor:
    rows = [inputs]
    if _without_cache(model) and model.config.pad_token_id is None:
        # A decoder classifies the last token that is not padding; without a padding token it takes one text at a time.
        rows = [{name: t[i : i + 1] for name, t in inputs.items()} for i in range(len(next(iter(inputs.values()))))]
    return torch.cat([_logits(model, row) for row in rows])[:, None]


def _hidden(model: Any, inputs: Inputs) -> torch.Tensor:
    states: torch.Tensor = model(**inputs, **_without_cache(model)).last_hidden_state
    return states.float()


def module_outputs(model: Any, inputs: Inputs) -> torch.Tensor:
    """Return a user's module's outputs, (samples, ...) float; raises InputError SS211 if it returns anything else."""
    outputs = model(*inputs.values())
    if not isinstance(outputs, torch.Tensor):
        raise problem("SS211", f"the module returns {type(outputs).__name__}, not a tensor of logits.")
    if not outputs.is_floating_point():
        raise problem(
            "SS211", f"the module returns {outputs.dtype}, not logits.", fix="Return logits, floating-point numbers."
        )
    samples = len(next(iter(inputs.values())))
    if not outputs.ndim or len(outputs) != samples:
        raise problem(
            "SS211",
            f"the module returns shape {tuple(outputs.shape)} for {samples} samples.",
            fix="The first axis must be the samples.",
        )
    return outputs


def _module(model: Any, inputs: Inputs, axis: int = 1) -> torch.Tensor:
    """Return (samples, positions, values) outputs; `axis` of the module's outputs holds the values (classes, words)."""
    outputs = module_outputs(model, inputs).float()
    if outputs.ndim < 3:
        return outputs.reshape(len(outputs), 1, -1)
    return outputs.movedim(axis, 1).flatten(2).transpose(1, 2)


def with_value_axis(task: Task, axis: int) -> Task:
    """Return the task of a module whose values lie along `axis` of its outputs."""
    return task if axis == 1 else replace(task, call=partial(_module, axis=axis))


TASKS = {
    task.name: task
    for task in (
        Task("causal", "AutoModelForCausalLM", "tokens", _logits),
        Task("masked", "AutoModelForMaskedLM", "tokens", _logits, special=True),
        Task("seq2seq", "AutoModelForSeq2SeqLM", "pair", _logits),
        Task(
            "text-classes",
            "AutoModelForSequenceClassification",
            "tokens",
            _classes,
            pooled=True,
            special=True,
        ),
        Task(
            "image-classes",
            "AutoModelForImageClassification",
            "image",
            _classes,
            pooled=True,
        ),
        Task("embedding", "AutoModel", "tokens", _hidden, special=True),
        Task("image-embedding", "AutoModel", "image", _hidden),
        Task("module", "", "image", _module),
    )
}
_SUFFIXES = {
    "ForCausalLM": "causal",
    "LMHeadModel": "causal",
    "ForMaskedLM": "masked",
    "ForConditionalGeneration": "seq2seq",
    "ForSequenceClassification": "text-classes",
    "ForImageClassification": "image-classes",
}


def task_of(config: PretrainedConfig) -> Task:
    """Return the task of a checkpoint, by the class that wrote it; raises InputError SS202 for unsupported heads."""
    class_name = (config.architectures or [""])[0]
    for suffix, name in _SUFFIXES.items():
        if class_name.endswith(suffix):
            return TASKS[name]
    if not class_name.endswith("Model") and class_name:
        raise problem(
            "SS202",
            f"checkpoint of {class_name}: this head is not supported.",
            fix=f"Supported: {', '.join(_SUFFIXES)}, and models without a head.",
        )
    return TASKS["image-embedding" if hasattr(config, "image_size") or hasattr(config, "num_channels") else "embedding"]
