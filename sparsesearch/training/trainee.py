"""Training methods: which weights of a candidate are trained, and how it becomes a plain network again."""

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
        model: is called like the candidate's network.
    """

    model: Any

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by name."""

    def enforce_masks(self) -> None:
        """Set pruned weights and their gradients to zero; called before and after each optimizer step."""

    def merge(self) -> Any:
        """End training and return a plain network of the candidate's shapes."""


class AllWeights:
    """Trains all weights that the masks keep."""

    def __init__(self, model: Any, network: Network, masks: Masks, options: TrainingConfig) -> None:
        self.model, self.masks = model, masks
        for parameter in self.parameters().values():
            parameter.requires_grad_(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.is_floating_point()}

    def enforce_masks(self) -> None:
        self.masks.apply(self.model)

    def merge(self) -> Any:
        return self.model.requires_grad_(False)


class BiasesAndNorms(AllWeights):
    """Trains only biases and norms (PERP, Zimmer et al., 2023, arXiv 2312.15230)."""

    def parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in super().parameters().items() if p.ndim == 1}


class LoRA:
    """Trains low-rank updates of all linears (peft); refuses masks, since merging would fill zeros.

    Raises InputError SS117 if the candidate has pruned weights.
    """

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

    def enforce_masks(self) -> None:
        """Do nothing: there are no masks."""

    def merge(self) -> Any:
        return self.model.merge_and_unload().requires_grad_(False)


class MaskedLoRA:
    """Trains masked low-rank updates, biases and norms: W + M (B A) α / r (PERP's MaskLoRA)."""

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

    def enforce_masks(self) -> None:
        """Do nothing: the updates are computed with masks."""

    def merge(self) -> Any:
        for path in self._paths:
            parametrize.remove_parametrizations(self.model.get_submodule(path), "weight")
        return self.model.requires_grad_(False)


class _MaskedUpdate(nn.Module):
    """W + M (B A) α / r of a weight W whose first axis is outputs or inputs; B starts at zero."""

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
    """A way to train, as `training.method` names it.

    Attributes:
        trainee: makes a network ready for steps by gradient; None for the method without, `compensation.compensate`.
    """

    trainee: Callable[[Any, Network, Masks, TrainingConfig], Trainee] | None

    @property
    def uses_gradients(self) -> bool:
        return self.trainee is not None


METHODS = {
    "full": TrainingMethod(AllWeights),
    "perp": TrainingMethod(BiasesAndNorms),
    "lora": TrainingMethod(LoRA),
    "masked_lora": TrainingMethod(MaskedLoRA),
    "compensate": TrainingMethod(None),
}


def make_trainee(model: Any, network: Network, options: TrainingConfig) -> Trainee:
    """Prepare a candidate's network for training, in place and in float32.

    Args:
        model: materialised network of the candidate; zeros in its matrices stay zero.

    Raises InputError SS117 if the method does not fit the network.
    """
    # Batch statistics are frozen: those of a few short minibatches would be worse than the candidate's own.
    model.float().requires_grad_(False).eval()
    make = METHODS[options.method].trainee
    assert make is not None, f"{options.method} takes no steps"
    prepared = make(model, network, Masks.of_zeros(model, network.matrices), options)
    if not prepared.parameters():
        raise problem(
            "SS117",
            f"training.method {options.method}: the network has no parameters of that kind to train.",
            fix="Use full.",
        )
    return prepared


def _matrices(model: nn.Module, network: Network) -> Iterator[tuple[str, Any]]:
    """Yield (path, module) of the modules whose weight is a matrix that the network still has."""
    modules = dict(model.named_modules())
    for name in network.matrices:
        path, _, leaf = name.rpartition(".")
        if leaf == "weight" and isinstance(getattr(modules.get(path), "weight", None), nn.Parameter):
            yield path, modules[path]
