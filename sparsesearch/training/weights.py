"""All weights of a network: frozen, moved by low-rank updates, or trained."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from sparsesearch.config import TrainingConfig
from sparsesearch.models.network import Network

WeightsMode = Literal["frozen", "lora", "full"]


class Weights:
    """All parameters of one network.

    Attributes:
        model_parameters: parameters of the network, by name.
        parameters: trained parameters, by name; empty if weights are frozen.
    """

    def __init__(self, model: Any, network: Network, mode: WeightsMode, options: TrainingConfig) -> None:
        """
        Args:
            model: dense, float32; trained in place.
            options: rank, scale and seed of low-rank updates.
        """
        self.model, self.scale = model, options.alpha / options.rank
        model.requires_grad_(False)
        self.model_parameters: dict[str, nn.Parameter] = {
            n: p for n, p in model.named_parameters() if p.is_floating_point()
        }
        self.parameters: dict[str, nn.Parameter] = {}
        self._low_rank: list[str] = []
        if mode == "full":
            self.parameters = self.model_parameters
        elif mode == "lora":
            self._low_rank = [name for name in network.matrices if name in self.model_parameters]
            generator = torch.Generator().manual_seed(options.seed)
            for name in self._low_rank:
                weight, is_experts = self.model_parameters[name], network.matrices[name].layout == "experts"
                *lead, rows, columns = weight.shape if is_experts else weight.flatten(1).shape
                first = torch.randn(*lead, options.rank, columns, generator=generator) / columns**0.5
                self.parameters[f"{name}:a"] = nn.Parameter(first.to(weight))
                self.parameters[f"{name}:b"] = nn.Parameter(weight.new_zeros(*lead, rows, options.rank))
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a parameter with its low-rank update, in the parameter's shape."""
        weight = self.model_parameters[name]
        if f"{name}:a" not in self.parameters:
            return weight
        update = self.parameters[f"{name}:b"] @ self.parameters[f"{name}:a"]
        return weight + self.scale * update.view_as(weight)

    def updated_parameters(self) -> dict[str, torch.Tensor]:
        """Return the parameters that have low-rank updates, with these updates, by name."""
        return {name: self.tensor(name) for name in self._low_rank}

    def merge(self) -> None:
        """Add low-rank updates to the network's own parameters and set the updates to zero."""
        with torch.no_grad():
            for name, value in self.updated_parameters().items():
                self.model_parameters[name].copy_(value)
                self.parameters[f"{name}:b"].zero_()
