"""Masks that keep pruned weights exactly zero while a network is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn


class Masks:
    """Masks of the kept weights of a network; the other weights stay zero.

    Momentum, weight decay and rounding all move weights without a gradient, so both gradients and weights are masked.
    """

    def __init__(self, kept: Mapping[str, torch.Tensor]) -> None:
        """
        Args:
            kept: masks by parameter name, bool, in the parameters' shapes; parameters without one are not masked.
        """
        self.kept = dict(kept)

    @classmethod
    def of_zeros(cls, model: nn.Module, names: Iterable[str]) -> Masks:
        """Return masks of the weights of named matrices that are not zero now; matrices without zeros get none."""
        parameters = dict(model.named_parameters())
        present = [name for name in names if name in parameters]
        return cls({name: parameters[name].data != 0 for name in present if bool((parameters[name] == 0).any())})

    def apply(self, model: nn.Module) -> None:
        """Set pruned weights, and their gradients if they have any, to zero."""
        with torch.no_grad():
            for name, kept in self.kept.items():
                parameter = model.get_parameter(name)
                parameter.mul_(kept)
                if parameter.grad is not None:
                    parameter.grad.mul_(kept)

    def violations(self, model: nn.Module) -> list[str]:
        """Return the names of parameters in which a pruned weight is not zero."""
        return [name for name, kept in self.kept.items() if bool((model.get_parameter(name).data[~kept] != 0).any())]
