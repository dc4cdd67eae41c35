"""Sources of networks: a Hugging Face checkpoint, a factory function of the user, or a module passed from Python.

A source is plain data (or holds the module itself), so it can be sent to workers, which load the network from it.
"""

from __future__ import annotations

import hashlib
import importlib
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
from sparsesearch.models.checkpoint import TensorTypes
from sparsesearch.models.copying import check_module, move_module, plain_copy
from sparsesearch.models.family import TRACED, describe
from sparsesearch.models.load import check_weights, dense_config, load_model, meta_model, resolve, weights_hash
from sparsesearch.models.network import Network
from sparsesearch.models.task import TASKS, Task, task_of
from sparsesearch.models.tracing.layers import weighted_layers
from sparsesearch.models.tracing.trace import describe_module, tied_parameters
from sparsesearch.process_state import import_path
from sparsesearch.tensors import load_tensors

# Image side for tracing networks that take images of any size.
TRACED_IMAGE_SIDE = 64


class Source(Protocol):
    """A network that can be described and loaded.

    Attributes:
        directory: directory of its tokenizer or image processor, if it has one.
        storage: data type of its weights, in which levels are stored and models exported.
        weights_hash: SHA-256 of weights and structure.
    """

    @property
    def directory(self) -> Path | None: ...
    @property
    def task(self) -> Task: ...
    @property
    def storage(self) -> torch.dtype: ...
    @property
    def weights_hash(self) -> str: ...

    def describe(self, inputs: Sequence[torch.Tensor] = (), batches: Iterable[Sequence[torch.Tensor]] = ()) -> Network:
        """Describe the network.

        Args:
            inputs: for a module, the inputs that it is traced with, one sample each.
            batches: for a module, batches of inputs; layers that none of them runs are left out.
        """
        ...

    def load(self, dtype: torch.dtype, device: str) -> Any:
        """Load the network in evaluation mode, without gradients."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """A network in a local directory that transformers wrote."""

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
    def types(self) -> TensorTypes:
        """Data types of the tensors in its files."""
        return TensorTypes(self.directory)

    @cached_property
    def weights_hash(self) -> str:
        return weights_hash(self.directory, self.trust_remote_code)

    def describe(self, inputs: Sequence[torch.Tensor] = (), batches: Iterable[Sequence[torch.Tensor]] = ()) -> Network:
        check_weights(self.directory, self.config, self.trust_remote_code)
        if self.config.model_type in TRACED:
            return _describe_traced(self.config)
        return describe(meta_model(self.config, self.trust_remote_code))

    def load(self, dtype: torch.dtype, device: str) -> Any:
        return load_model(self.directory, dtype, device, self.trust_remote_code)

    def skeleton(self) -> Any:
        """Return the network without weights, on the meta device."""
        return meta_model(self.config, self.trust_remote_code)


def _describe_traced(config: Any) -> Network:
    """Describe a convolutional network of transformers, traced with random weights."""
    model = getattr(transformers, task_of(config).auto_class).from_config(config)
    size = getattr(config, "image_size", TRACED_IMAGE_SIDE)
    network = describe_module(model, [torch.randn(1, config.num_channels, size, size)], task_of(config))
    return replace(network, model_type=config.model_type)


@dataclass(frozen=True)
class ModuleSource:
    """A module passed from Python.

    Attributes:
        example: example inputs that it is traced with; empty: one calibration sample.
    """

    module: nn.Module
    example: tuple[torch.Tensor, ...] = ()
    directory: None = None

    def __post_init__(self) -> None:
        """Raises InputError SS232 if parameters can be neither pruned nor counted."""
        check_module(self.module)

    @property
    def task(self) -> Task:
        return TASKS["module"]

    @cached_property
    def storage(self) -> torch.dtype:
        types = {layer.weight.dtype for _, layer in weighted_layers(plain_copy(self.module))}
        if len(types) > 1:
            names = sorted(str(dtype).removeprefix("torch.") for dtype in types)
            raise problem(
                "SS232",
                f"weights of linear and convolution layers are of several types ({', '.join(names)}).",
                fix="Give them one type, as module.float() does; norms and others may have their own.",
            )
        return next(iter(types), torch.float32)

    @property
    def types(self) -> dict[str, torch.dtype]:
        """Data type of each tensor of its state, by name."""
        state = plain_copy(self.module).state_dict()
        return {name: value.dtype for name, value in state.items() if isinstance(value, torch.Tensor)}

    @cached_property
    def weights_hash(self) -> str:
        digest = hashlib.sha256(repr(self.module).encode())
        for name, value in sorted(self.module.state_dict().items()):
            content = _bytes(value) if isinstance(value, torch.Tensor) else repr(value).encode()
            digest.update(name.encode() + content)
        return digest.hexdigest()

    def describe(self, inputs: Sequence[torch.Tensor] = (), batches: Iterable[Sequence[torch.Tensor]] = ()) -> Network:
        _ = self.storage
        example_shapes, data_shapes = ([tuple(t.shape[1:]) for t in tensors] for tensors in (self.example, inputs))
        if self.example and example_shapes != data_shapes:
            raise problem(
                "SS210",
                f"example_inputs have shapes {', '.join(map(str, example_shapes))} a sample, calibration data have "
                f"{', '.join(map(str, data_shapes))}.",
                fix="Give example inputs of the same shapes as the data.",
            )
        return describe_module(self.module, self.example or inputs, batches=batches)

    def load(self, dtype: torch.dtype, device: str) -> Any:
        return move_module(plain_copy(self.module), device, dtype)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@dataclass(frozen=True)
class Factory:
    """A function `package.module:function` that returns a module, and a safetensors file with its state.

    Attributes:
        paths: directories that are put before Python's import path, so that workers find the same modules.
    """

    name: str
    state: Path | None
    paths: tuple[str, ...]
    directory: None = None

    @cached_property
    def module_source(self) -> ModuleSource:
        return ModuleSource(self._module())

    @property
    def task(self) -> Task:
        return self.module_source.task

    @property
    def storage(self) -> torch.dtype:
        return self.module_source.storage

    @property
    def types(self) -> dict[str, torch.dtype]:
        return self.module_source.types

    @property
    def weights_hash(self) -> str:
        return self.module_source.weights_hash

    def describe(self, inputs: Sequence[torch.Tensor] = (), batches: Iterable[Sequence[torch.Tensor]] = ()) -> Network:
        return self.module_source.describe(inputs, batches)

    def load(self, dtype: torch.dtype, device: str) -> Any:
        return self.module_source.load(dtype, device)

    def check_repeatable(self) -> None:
        """Raise InputError SS230 if the function builds a different network each time it is called."""
        if ModuleSource(self._module()).weights_hash != self.weights_hash:
            raise problem(
                "SS230",
                f"model factory {self.name!r} builds other weights at every call.",
                fix="Give trained weights in model.weights, or call torch.manual_seed in the function.",
            )

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "module_source"}

    def _module(self) -> nn.Module:
        module = call_factory(self.name, self.paths)
        if self.state is not None:
            load_state(module, self.state)
        return module


@dataclass(frozen=True)
class SupernetSource:
    """Another source's network with the weights of a trained supernet, which have the same shapes.

    Attributes:
        state: safetensors file of parameters and buffers.
        weights_hash: identifies the weights; known before the file exists.
    """

    source: Source
    state: Path
    weights_hash: str

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
        load_state(model, self.state)
        return model


def open_source(model: ModelConfig) -> Source:
    """Return the source that a configuration names; raises InputError SS201, SS206, SS207, SS213 or SS214."""
    if FACTORY.fullmatch(model.id):
        state = None if model.weights is None else Path(model.weights).expanduser().resolve()
        source = Factory(model.id, state, (str(Path.cwd()),))
        _ = source.module_source
        return source
    if model.weights is not None:
        raise problem("SS213", f"model.weights is for a factory (package.module:function), not for {model.id!r}.")
    return Checkpoint(resolve(model), model.trust_remote_code)


def open_teacher(model: ModelConfig, network: Network) -> Source | None:
    """Return the source of a configuration's teacher, if it names one; raises InputError SS216 if outputs differ."""
    if model.teacher is None:
        return None
    option = "weights" if FACTORY.fullmatch(model.id) else "id"
    teacher = open_source(model.model_copy(update={option: model.teacher, "teacher": None}))
    if isinstance(teacher, Checkpoint):
        described = teacher.describe()
        if (described.task.name, described.values) != (network.task.name, network.values):
            raise problem(
                "SS216",
                f"model.teacher {model.teacher} is a network for {described.task.name} with "
                f"{described.values} outputs, the model one for {network.task.name} with {network.values}.",
                fix="Give a teacher with the same outputs.",
            )
    return teacher


def call_factory(name: str, paths: tuple[str, ...] = ()) -> nn.Module:
    """Return the module that `package.module:function` builds, with `paths` put before the import path.

    Raises InputError SS213 if it cannot be called or returns no module.
    """
    package, _, function = name.partition(":")
    try:
        with import_path(*map(Path, paths)):
            module = getattr(importlib.import_module(package), function)()
    except Exception as error:  # the user's code may raise any type
        raise problem(
            "SS213",
            f"model factory {name!r} cannot be called: {type(error).__name__}: {first_line(error)}.",
            fix="Give package.module:function, importable from here, that takes no arguments.",
        ) from None
    if not isinstance(module, nn.Module):
        raise problem("SS213", f"model factory {name!r} returns {type(module).__name__}, not a torch.nn.Module.")
    return module


def load_state(module: nn.Module, state: Path) -> None:
    """Load a safetensors state into a module; raises InputError SS214 if keys or shapes do not fit."""
    hint = "Give a .safetensors file."
    tensors, _ = load_tensors(
        state, lambda why: problem("SS214", f"cannot read model.weights {state}: {why}.", fix=hint)
    )
    needed = module.state_dict()
    tied = tied_parameters(module)
    stored = {tied.get(k, k) for k in tensors}
    missing = [k for k in needed if tied.get(k, k) not in stored and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in tensors if k not in needed]
    mismatched = [k for k, t in tensors.items() if k in needed and needed[k].shape != t.shape]
    for fault, keys in (("misses", missing), ("has unexpected", unexpected), ("has other shapes for", mismatched)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise problem("SS214", f"model.weights {state.name} {fault} {', '.join(keys[:3])}{more}.")
    module.load_state_dict(tensors, strict=False)
