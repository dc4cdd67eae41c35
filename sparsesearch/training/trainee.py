"""What of a candidate is trained, and how it becomes a plain network again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.utils import parametrize

from sparsesearch.config import TrainingConfig
from sparsesearch.errors import problem
from sparsesearch.models.network import Network
from sparsesearch.training.masks import Masks


class Trainee(Protocol):
    """A network that is being trained by one method.

    Attributes:
        model: runs like the candidate's own.
    """

    model: Any

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""

    def settle(self) -> None:
        """After each step: what must not have changed is put back."""

    def merged(self) -> Any:
        """A plain network of the candidate's shapes; training ends."""


class Whole:
    """All weights, inside the masks."""

    def __init__(self, model: Any, network: Network, masks: Masks, options: TrainingConfig) -> None:
        self.model, self.masks = model, masks
        for parameter in self.parameters().values():
            parameter.requires_grad_(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.is_floating_point()}

    def settle(self) -> None:
        self.masks.hold(self.model)

    def merged(self) -> Any:
        return self.model.requires_grad_(False)


class BiasesAndNorms(Whole):
    """Biases and norms alone (PERP, Zimmer et al., 2023, arXiv 2312.15230)."""

    def parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in super().parameters().items() if p.ndim == 1}


class LoRA:
    """Low-rank updates of all linears (peft); merging fills zeros, so that masks refuse it."""

    def __init__(self, model: Any, network: Network, masks: Masks, options: TrainingConfig) -> None:
        if masks.kept:
            raise problem(
                "SS117", "training.method lora: merged updates would fill pruned weights.", fix="Use masked_lora."
            )
        from peft import LoraConfig, get_peft_model

        linears = [path for path, module in _matrices(model, network) if isinstance(module, nn.Linear)]
        torch.manual_seed(options.seed)
        config = LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules=linears)
        self.model = get_peft_model(model, config)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def settle(self) -> None:
        """Nothing: only the updates move."""

    def merged(self) -> Any:
        return self.model.merge_and_unload().requires_grad_(False)


class MaskedLoRA:
    """Low-rank updates inside the masks, beside biases and norms: W + M (B A) α / r (PERP's MaskLoRA)."""

    def __init__(self, model: Any, network: Network, masks: Masks, options: TrainingConfig) -> None:
        self.model, self._masks = model, masks
        generator = torch.Generator().manual_seed(options.seed)
        model.requires_grad_(False)
        for parameter in [p for p in model.parameters() if p.ndim == 1]:
            parameter.requires_grad_(True)
        self._paths = [path for path, _ in _matrices(model, network)]
        for path, module in _matrices(model, network):
            update = _MaskedUpdate(module.weight, masks.kept.get(f"{path}.weight"), options, generator)
            parametrize.register_parametrization(module, "weight", update)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def settle(self) -> None:
        """Nothing: updates are masked where they are made."""

    def merged(self) -> Any:
        for path in self._paths:
            parametrize.remove_parametrizations(self.model.get_submodule(path), "weight")
        return self.model.requires_grad_(False)


class _MaskedUpdate(nn.Module):
    """W + M (B A) α / r of a weight whose first axis counts outputs, or inputs; B is zero at first."""

    def __init__(
        self, weight: torch.Tensor, kept: torch.Tensor | None, options: TrainingConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        self.kept, self.scale = kept, options.alpha / options.rank
        first = torch.randn(options.rank, columns, generator=generator) / columns**0.5
        self.a = nn.Parameter(first.to(weight))
        self.b = nn.Parameter(weight.new_zeros(rows, options.rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        update = (self.b @ self.a).view_as(weight) * self.scale
        return weight + (update if self.kept is None else update * self.kept)


@dataclass(frozen=True)
class TrainingMethod:
    """What `training.method` names.

    Attributes:
        trainee: makes a network ready for steps by gradient; None for the method without, `compensation.compensate`.
    """

    trainee: Callable[[Any, Network, Masks, TrainingConfig], Trainee] | None

    @property
    def uses_gradients(self) -> bool:
        return self.trainee is not None


METHODS = {
    "full": TrainingMethod(Whole),
    "perp": TrainingMethod(BiasesAndNorms),
    "lora": TrainingMethod(LoRA),
    "masked_lora": TrainingMethod(MaskedLoRA),
    "compensate": TrainingMethod(None),
}


def trainee(model: Any, network: Network, options: TrainingConfig) -> Trainee:
    """A candidate's network, made ready for training in float32 in place.

    Args:
        model: of the candidate, a network of its own; its zeros in matrices stay zero.

    Raises InputError SS117 where the method does not fit.
    """
    # Batch statistics stay too: those of a few short minibatches would be worse than what the candidate is judged with.
    model.float().requires_grad_(False).eval()
    make = METHODS[options.method].trainee
    assert make is not None, f"{options.method} takes no steps"
    trained = make(model, network, Masks.of_zeros(model, network.matrices), options)
    if not trained.parameters():
        raise problem(
            "SS117",
            f"training.method {options.method}: the network has nothing of that kind to train.",
            fix="Use full.",
        )
    return trained


def _matrices(model: nn.Module, network: Network) -> Iterator[tuple[str, Any]]:
    """(path, module) of the matrices that a network still has and that are the weight of a module."""
    own = dict(model.named_modules())
    for name in network.matrices:
        path, _, leaf = name.rpartition(".")
        if leaf == "weight" and isinstance(getattr(own.get(path), "weight", None), nn.Parameter):
            yield path, own[path]
