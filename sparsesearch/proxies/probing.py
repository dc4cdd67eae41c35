"""What proxies see of a candidate's activations."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sparsesearch.calibration.statistics import outputs
from sparsesearch.proxies.proxy_inputs import Live

RECTIFIERS = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}


def input_gradients(live: Live) -> torch.Tensor:
    """Gradient of the sum of all outputs by each sample's inputs, or by their embeddings, (samples, values)."""
    given = live.samples.inputs(live.model)
    read: list[torch.Tensor] = []

    def watch(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        states = (args[0] if args else kwargs["hidden_states"]).detach().requires_grad_(True)
        read.append(states)
        return ((states, *args[1:]), kwargs) if args else ((), kwargs | {"hidden_states": states})

    if all(tensor.is_floating_point() for tensor in given.values()):
        read += [tensor.requires_grad_(True) for tensor in given.values()]
        live.network.task.call(live.model, given).sum().backward()  # type: ignore[no-untyped-call]
    else:
        # Hidden states as they enter the first block stand for tokens.
        handle = live.model.get_submodule(live.network.blocks[0]).register_forward_pre_hook(watch, with_kwargs=True)
        try:
            live.network.task.call(live.model, given).sum().backward()  # type: ignore[no-untyped-call]
        finally:
            handle.remove()
    return torch.cat([tensor.grad.float().flatten(1) for tensor in read if tensor.grad is not None], dim=1)


class _Rectifiers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes where rectifiers' inputs are positive, whether they are modules or function calls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[torch.Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in RECTIFIERS:
            self.found.append((args[0] > 0).flatten(1))
        return func(*args, **(kwargs or {}))


def rectified(live: Live) -> list[torch.Tensor]:
    """For each rectifier that runs, which of its units each sample switches on, (samples, units), bool."""
    seen = _Rectifiers()
    with seen:
        outputs(live.model, live.network, live.samples)
    return seen.found
