"""A simulated accelerator, of type `sim`: tensors say that they are on it, and are held in the CPU's memory.

It refuses what real accelerators refuse (tensors of several devices in one operation, `numpy()`), and counts transfers
and waits of the host by line of sparsesearch. torch knows it as a backend of its own, so that `torch.accelerator`,
autograd and autocast work as for any other. It cannot show wrong kernels, speed, or a lack of memory.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

TYPE = "sim"
aten = torch.ops.aten
# Operations that copy between devices.
COPIES = {aten._to_copy.default, aten.copy_.default}
# Operations that take indices on the CPU for a tensor on an accelerator.
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
# Operations whose result the host must wait for.
WAITS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.equal.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
# Operations that autocast runs in the lower precision.
AUTOCAST = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "conv1d", "conv2d", "scaled_dot_product_attention")
# [number, bytes] of (what happened, line of sparsesearch).
COUNTS: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])


class SimulatedTensor(torch.Tensor):
    """A tensor that is said to be on the device; `held` is its value on the CPU."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor, index: int = 0) -> SimulatedTensor:
        tensor: SimulatedTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(TYPE, index),
        )
        tensor.held = held
        return tensor

    def __repr__(self, **_: Any) -> str:
        return f"{self.held!r} on {self.device}"

    def tolist(self) -> Any:
        """Return the values, as torch does for its own tensors only."""
        return self.cpu().tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copied: Any = SimulatedTensor(self.held.detach().clone(), self.device.index)
            if isinstance(self, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, requires_grad=self.requires_grad)
            memo[id(self)] = copied
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {})


class Mode(TorchDispatchMode):
    """Sends operations without a simulated argument here too, since they may make a tensor on the device."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {})


class Backend:
    """The module `torch.sim`, as `torch.cuda` is for CUDA."""

    def __init__(self, devices: int) -> None:
        self.devices = devices

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _lazy_init(self) -> None:
        """Do nothing: there is nothing to start."""

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return self.devices

    def current_device(self) -> int:
        return 0

    def get_device_name(self, device: object = None) -> str:
        return "simulated accelerator"

    def is_bf16_supported(self) -> bool:
        return True

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def mem_get_info(self, device: object = None) -> tuple[int, int]:
        return 8 * 2**30, 8 * 2**30

    def synchronize(self, device: object = None) -> None:
        note("wait", 0)

    def manual_seed_all(self, seed: int) -> None:
        """Do nothing: random numbers are drawn on the CPU."""

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        torch.set_rng_state(state)

    def reset_peak_memory_stats(self, device: object = None) -> None:
        """Do nothing: memory is not simulated."""

    def memory_allocated(self, device: object = None) -> int:
        return 0

    def max_memory_allocated(self, device: object = None) -> int:
        return 0

    def empty_cache(self) -> None:
        """Do nothing: nothing is kept."""


def note(event: str, size: int) -> None:
    """Count an event at the line of sparsesearch that caused it, or of the library that it called."""
    frame, line = sys._getframe(1), "?"
    while frame is not None:
        path = frame.f_code.co_filename
        if "/sparsesearch/" in path and "site-packages" not in path:
            line = f"{path.rpartition('/sparsesearch/')[2]}:{frame.f_lineno}"
            break
        frame = frame.f_back  # type: ignore[assignment]
    count = COUNTS[(event, line)]
    count[0] += 1
    count[1] += size


def run(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on the held values, with what a device would refuse refused."""
    leaves = tree_leaves((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, SimulatedTensor)]
    device = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    if operation not in COPIES:
        _refuse_mixed_devices(operation, args, leaves, ours)
    if ours and operation in WAITS:
        note("wait", 0)
    held_args, held_kwargs = tree_map(_held, args), tree_map(_held, kwargs)
    held_kwargs.pop("pin_memory", None)
    if device is not None and device.type == TYPE:
        held_kwargs["device"] = torch.device("cpu")
    if operation is aten._to_copy.default:
        return _copy(args[0], held_args, held_kwargs, device, bool(kwargs.get("non_blocking")))
    if operation is aten.copy_.default:
        _note_copy(args[1], args[0].device, bool(args[2]) if len(args) > 2 else bool(kwargs.get("non_blocking")))
    if operation is aten.histc.default and not held_args[0].is_floating_point():  # the CPU has it for floats only
        result = operation(held_args[0].float(), *held_args[1:], **held_kwargs).to(held_args[0].dtype)
    else:
        result = operation(*held_args, **held_kwargs)
    if operation is aten._local_scalar_dense.default:
        return result
    if device is None and ours:
        device = ours[0].device
    if device is None or device.type != TYPE:
        return args[0] if operation is aten.copy_.default else result
    by_value = {id(tensor.held): tensor for tensor in ours}
    for tensor in ours:
        if tensor.held.shape != tensor.shape:
            raise NotImplementedError(f"{operation} changes the shape of a tensor in place")

    def wrapped(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or isinstance(leaf, SimulatedTensor):
            return leaf
        return by_value.get(id(leaf)) if id(leaf) in by_value else SimulatedTensor(leaf, device.index or 0)

    return tree_map(wrapped, result)


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, SimulatedTensor) else leaf


def _refuse_mixed_devices(operation: Any, args: tuple[Any, ...], leaves: list[Any], ours: list[Any]) -> None:
    """Raise RuntimeError, as CUDA does, if an operation mixes devices; a scalar on the CPU may go with any tensor."""
    if not ours:
        return
    others = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, SimulatedTensor)]
    if operation in INDEXING and isinstance(args[0], SimulatedTensor):
        for index in args[1]:
            if isinstance(index, SimulatedTensor) and index.dtype in (torch.bool, torch.uint8):
                note("wait", 0)
            elif isinstance(index, torch.Tensor) and not isinstance(index, SimulatedTensor):
                note("to device", index.nbytes)
        others = [leaf for leaf in args[2:] if isinstance(leaf, torch.Tensor) and not isinstance(leaf, SimulatedTensor)]
    devices = {str(tensor.device) for tensor in ours} | {"cpu" for tensor in others if tensor.dim()}
    if len(devices) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(sorted(devices))}! ({operation})"
        )


def _note_copy(source: torch.Tensor, target: torch.device, non_blocking: bool) -> None:
    """Count a copy between devices; the host waits for it unless it is asked not to."""
    if source.device.type == target.type or (source.dim() == 0 and target.type == TYPE):
        return
    note(f"{'to' if target.type == TYPE else 'from'} device", source.numel() * source.element_size())
    if not non_blocking:
        note("wait", 0)


def _copy(
    source: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], device: torch.device | None, non_blocking: bool
) -> torch.Tensor:
    """Return a copy of a tensor on a device, or on its own."""
    target = source.device if device is None else device
    _note_copy(source, target, non_blocking)
    kwargs.pop("non_blocking", None)
    copied: torch.Tensor = aten._to_copy.default(*args, **kwargs)
    if copied.data_ptr() == args[0].data_ptr():
        copied = copied.clone()
    return SimulatedTensor(copied, target.index or 0) if target.type == TYPE else copied


def _apply(self: Any, convert: Any, recurse: bool = True, memo: dict[int, Any] | None = None) -> Any:
    """Convert a module's tensors; torch's version gives each use of a shared parameter one of its own."""
    memo = {} if memo is None else memo
    if recurse:
        for child in self.children():
            child._apply(convert, True, memo)
    for name, parameter in self._parameters.items():
        if parameter is None:
            continue
        if id(parameter) not in memo:
            with torch.no_grad():
                value = convert(parameter.detach())
            memo[id(parameter)] = torch.nn.Parameter(value, requires_grad=parameter.requires_grad), parameter
        self._parameters[name] = memo[id(parameter)][0]
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = convert(buffer)
    return self


def _autocast_kernel(operation: Any) -> Any:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype(TYPE)

        def cast(leaf: Any) -> Any:
            is_number = isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.dtype != torch.float64
            return leaf.to(dtype) if is_number else leaf

        autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
        with torch._C._ExcludeDispatchKeyGuard(autocast):
            return operation(*tree_map(cast, args), **tree_map(cast, kwargs))

    return kernel


def install(devices: int = 1) -> None:
    """Give this process the accelerator, until it ends."""
    backend_registration._setup_privateuseone_for_python_backend(TYPE, backend_module=Backend(devices))
    torch._C._set_only_lift_cpu_tensors(True)
    torch.nn.Module._apply = _apply
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    lower_precision = torch.library.Library("aten", "IMPL")
    for name in AUTOCAST:
        lower_precision.impl(name, _autocast_kernel(getattr(aten, name).default), "AutocastPrivateUse1")
    _KEPT.extend((everything, lower_precision, Mode().__enter__()))


# What ends the registration when it is collected.
_KEPT: list[Any] = []
