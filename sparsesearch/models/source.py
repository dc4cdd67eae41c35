"""Where a network comes from: a Hugging Face checkpoint, a factory of the user's own, or a module given from Python.

A source is plain data (or holds the module itself), so that it travels to workers, which load the network from it.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from torch import nn

from sparsesearch.config import FACTORY, ModelConfig
from sparsesearch.errors import first_line, problem
from sparsesearch.models.builder import weighted
from sparsesearch.models.checkpoint import Types
from sparsesearch.models.copying import check_plain, own_copy, placed
from sparsesearch.models.family import TRACED, describe
from sparsesearch.models.load import check_weights, dense_config, load_model, meta_model, resolve, weights_hash
from sparsesearch.models.network import Network
from sparsesearch.models.task import TASKS, Task, task_of
from sparsesearch.models.trace import describe_module, tied_parameters
from sparsesearch.tensors import load_tensors

# Image side for tracing networks that take any.
TRACED_IMAGE = 64


class Source(Protocol):
    """A network that can be described and loaded.

    Attributes:
        directory: where its tokenizer or image processor lies, if anywhere.
        task: what it is for.
        storage: data type of its weights: what levels are stored and models exported in.
        weights: hash of weights and structure.
    """

    @property
    def directory(self) -> Path | None: ...
    @property
    def task(self) -> Task: ...
    @property
    def storage(self) -> torch.dtype: ...
    @property
    def weights(self) -> str: ...

    def describe(self, inputs: Sequence[torch.Tensor] = (), batches: Iterable[Sequence[torch.Tensor]] = ()) -> Network:
        """Its parts; a module is traced with these inputs, one sample each, and has the layers that batches reach."""
        ...

    def load(self, dtype: torch.dtype, device: str) -> Any:
        """The network in evaluation mode, without gradients."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """A local directory that transformers wrote."""

    directory: Path
    trust_remote_code: bool

    @cached_property
    def config(self) -> Any:
        return dense_config(self.directory, self.trust_remote_code)

    @property
    def task(self) -> Task:
        return task_of(self.config)

    @property
    def storage(self) -> torch.dtype:
        return self.types.main

    @cached_property
    def types(self) -> Types:
        """Data types of its tensors, as the files have them."""
        return Types(self.directory)

    @cached_property
    def weights(self) -> str:
        return weights_hash(self.directory, self.trust_remote_code)

    def describe(self, inputs: Sequence[torch.Tensor] = (), batches: Iterable[Sequence[torch.Tensor]] = ()) -> Network:
        check_weights(self.directory, self.config, self.trust_remote_code)
        if self.config.model_type in TRACED:
            return _traced(self.config)
        return describe(meta_model(self.config, self.trust_remote_code))

    def load(self, dtype: torch.dtype, device: str) -> Any:
        return load_model(self.directory, dtype, device, self.trust_remote_code)

    def skeleton(self) -> Any:
        """The network without weights, on the meta device."""
        return meta_model(self.config, self.trust_remote_code)


def _traced(config: Any) -> Network:
    """A convolutional network of transformers, traced with random weights."""
    model = getattr(transformers, task_of(config).auto_class).from_config(config)
    size = getattr(config, "image_size", TRACED_IMAGE)
    network = describe_module(model, [torch.randn(1, config.num_channels, size, size)], task_of(config))
    return replace(network, model_type=config.model_type)


@dataclass(frozen=True)
class Given:
    """A module as it is.

    Attributes:
        example: what it is traced with, in place of one sample.
    """

    module: nn.Module
    example: tuple[torch.Tensor, ...] = ()
    directory: None = None

    def __post_init__(self) -> None:
        """Raises InputError SS232 where parameters can be neither pruned nor counted."""
        check_plain(self.module)

    @property
    def task(self) -> Task:
        return TASKS["module"]

    @cached_property
    def storage(self) -> torch.dtype:
        types = {layer.weight.dtype for _, layer in weighted(own_copy(self.module))}
        if len(types) > 1:
            told = sorted(str(dtype).removeprefix("torch.") for dtype in types)
            raise problem(
                "SS232",
                f"weights of linear and convolution layers are of several types ({', '.join(told)}).",
                fix="Give them one type, as module.float() does; norms and others may have their own.",
            )
        return next(iter(types), torch.float32)

    @property
    def types(self) -> dict[str, torch.dtype]:
        """The type of each tensor of its state."""
        state = own_copy(self.module).state_dict()
        return {name: value.dtype for name, value in state.items() if isinstance(value, torch.Tensor)}

    @cached_property
    def weights(self) -> str:
        digest = hashlib.sha256(repr(self.module).encode())
        for name, value in sorted(self.module.state_dict().items()):
            told = _bytes(value) if isinstance(value, torch.Tensor) else repr(value).encode()
            digest.update(name.encode() + told)
        return digest.hexdigest()

    def describe(self, inputs: Sequence[torch.Tensor] = (), batches: Iterable[Sequence[torch.Tensor]] = ()) -> Network:
        _ = self.storage
        found, wanted = [tuple(t.shape[1:]) for t in self.example], [tuple(t.shape[1:]) for t in inputs]
        if self.example and found != wanted:
            raise problem(
                "SS210",
                f"example_inputs have shapes {', '.join(map(str, found))} a sample, calibration data have "
                f"{', '.join(map(str, wanted))}.",
                fix="Give example inputs like the data.",
            )
        return describe_module(self.module, self.example or inputs, batches=batches)

    def load(self, dtype: torch.dtype, device: str) -> Any:
        return placed(own_copy(self.module), device, dtype)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@dataclass(frozen=True)
class Factory:
    """`package.module:function` that returns a module, and a safetensors file with its state.

    Attributes:
        paths: what is put before Python's import path, so that workers find what the user's shell finds.
    """

    name: str
    state: Path | None
    paths: tuple[str, ...]
    directory: None = None

    @cached_property
    def given(self) -> Given:
        return Given(self._module())

    @property
    def task(self) -> Task:
        return self.given.task

    @property
    def storage(self) -> torch.dtype:
        return self.given.storage

    @property
    def types(self) -> dict[str, torch.dtype]:
        return self.given.types

    @property
    def weights(self) -> str:
        return self.given.weights

    def describe(self, inputs: Sequence[torch.Tensor] = (), batches: Iterable[Sequence[torch.Tensor]] = ()) -> Network:
        return self.given.describe(inputs, batches)

    def load(self, dtype: torch.dtype, device: str) -> Any:
        return self.given.load(dtype, device)

    def check_repeatable(self) -> None:
        """Raise InputError SS230 where the function builds another network each time it is called."""
        if Given(self._module()).weights != self.weights:
            raise problem(
                "SS230",
                f"model factory {self.name!r} builds other weights at every call.",
                fix="Give trained ones in model.weights, or call torch.manual_seed in it.",
            )

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "given"}

    def _module(self) -> nn.Module:
        module = build(self.name, self.paths)
        if self.state is not None:
            fill(module, self.state)
        return module


@dataclass(frozen=True)
class Retrained:
    """Another source's network with weights of its own, of the same shapes.

    Attributes:
        state: safetensors file of parameters and buffers.
        weights: what stands for them where there is no file yet.
    """

    source: Source
    state: Path
    weights: str

    @property
    def directory(self) -> Path | None:
        return self.source.directory

    @property
    def task(self) -> Task:
        return self.source.task

    @property
    def storage(self) -> torch.dtype:
        return self.source.storage

    def describe(self, inputs: Sequence[torch.Tensor] = (), batches: Iterable[Sequence[torch.Tensor]] = ()) -> Network:
        return self.source.describe(inputs, batches)

    def load(self, dtype: torch.dtype, device: str) -> Any:
        model = self.source.load(dtype, device)
        fill(model, self.state)
        return model


def open_source(model: ModelConfig) -> Source:
    """The source that a configuration names; raises InputError SS201, SS206, SS207, SS213 or SS214."""
    if FACTORY.fullmatch(model.id):
        state = None if model.weights is None else Path(model.weights).expanduser().resolve()
        source = Factory(model.id, state, (str(Path.cwd()),))
        _ = source.given
        return source
    if model.weights is not None:
        raise problem("SS213", f"model.weights is for a factory (package.module:function), not for {model.id!r}.")
    return Checkpoint(resolve(model), model.trust_remote_code)


def open_teacher(model: ModelConfig, network: Network) -> Source | None:
    """The source of a configuration's teacher, if it names one; raises InputError SS216 where it cannot teach."""
    if model.teacher is None:
        return None
    own = "weights" if FACTORY.fullmatch(model.id) else "id"
    teacher = open_source(model.model_copy(update={own: model.teacher, "teacher": None}))
    if isinstance(teacher, Checkpoint):
        described = teacher.describe()
        if (described.task.name, described.values) != (network.task.name, network.values):
            raise problem(
                "SS216",
                f"model.teacher {model.teacher}: it is a network for {described.task.name} with "
                f"{described.values} outputs, the model one for {network.task.name} with {network.values}.",
                fix="Give one with the same outputs.",
            )
    return teacher


def build(name: str, paths: tuple[str, ...] = ()) -> nn.Module:
    """The module that `package.module:function` returns; raises InputError SS213."""
    package, _, function = name.partition(":")
    sys.path[:0] = [path for path in paths if path not in sys.path]
    try:
        module = getattr(importlib.import_module(package), function)()
    except Exception as error:  # whatever the user's code raises
        raise problem(
            "SS213",
            f"model factory {name!r} cannot be called: {type(error).__name__}: {first_line(error)}.",
            fix="Give package.module:function, importable from here, that takes no arguments.",
        ) from None
    if not isinstance(module, nn.Module):
        raise problem("SS213", f"model factory {name!r} returns {type(module).__name__}, not a torch.nn.Module.")
    return module


def fill(module: nn.Module, state: Path) -> None:
    """Load a safetensors state into a module; raises InputError SS214 where keys or shapes do not fit."""
    hint = "Give a .safetensors file."
    tensors, _ = load_tensors(
        state, lambda why: problem("SS214", f"cannot read model.weights {state}: {why}.", fix=hint)
    )
    own = module.state_dict()
    tied = tied_parameters(module)
    there = {tied.get(k, k) for k in tensors}
    missing = [k for k in own if tied.get(k, k) not in there and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in tensors if k not in own]
    wrong = [k for k, t in tensors.items() if k in own and own[k].shape != t.shape]
    for fault, keys in (("misses", missing), ("has unexpected", unexpected), ("has other shapes for", wrong)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise problem("SS214", f"model.weights {state.name} {fault} {', '.join(keys[:3])}{more}.")
    module.load_state_dict(tensors, strict=False)
