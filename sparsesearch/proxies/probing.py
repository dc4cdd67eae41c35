"""Activations and input gradients of a candidate, for proxies."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sparsesearch.calibration.statistics import outputs
from sparsesearch.proxies.proxy_inputs import LiveCandidate

RECTIFIERS = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}


def input_gradients(live: LiveCandidate) -> torch.Tensor:
    """Return the gradient of the sum of all outputs by each sample's inputs, (samples, values).

    For tokens it is the gradient by the hidden states that enter the first block.
    """
    inputs = live.samples.inputs(live.model)
    read: list[torch.Tensor] = []

    def watch(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        states = (args[0] if args else kwargs["hidden_states"]).detach().requires_grad_(True)
        read.append(states)
        return ((states, *args[1:]), kwargs) if args else ((), kwargs | {"hidden_states": states})

    if all(tensor.is_floating_point() for tensor in inputs.values()):
        read += [tensor.requires_grad_(True) for tensor in inputs.values()]
        live.network.task.call(live.model, inputs).sum().backward()  # type: ignore[no-untyped-call]
    else:
        handle = live.model.get_submodule(live.network.blocks[0]).register_forward_pre_hook(watch, with_kwargs=True)
        try:
            live.network.task.call(live.model, inputs).sum().backward()  # type: ignore[no-untyped-call]
        finally:
            handle.remove()
    return torch.cat([tensor.grad.float().flatten(1) for tensor in read if tensor.grad is not None], dim=1)


class _Rectifiers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records which inputs of rectifiers are positive, for modules as for function calls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.masks: list[torch.Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in RECTIFIERS:
            self.masks.append((args[0] > 0).flatten(1))
        return func(*args, **(kwargs or {}))


def active_units(live: LiveCandidate) -> list[torch.Tensor]:
    """Return for each rectifier that runs the mask of its units that each sample activates, (samples, units)."""
    recorder = _Rectifiers()
    with recorder:
        outputs(live.model, live.network, live.samples)
    return recorder.masks
