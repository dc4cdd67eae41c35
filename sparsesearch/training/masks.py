"""Masks that hold exactly while a network is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn


class Masks:
    """Which weights of a network are there; the others stay zero whatever an optimizer does.

    Momentum, weight decay and rounding all move weights without a gradient; so gradients are masked where they are
    used and weights after every step.
    """

    def __init__(self, kept: Mapping[str, torch.Tensor]) -> None:
        """
        Args:
            kept: of parameters by name, bool, in their shapes; others are free.
        """
        self.kept = dict(kept)

    @classmethod
    def of_zeros(cls, model: nn.Module, names: Iterable[str]) -> Masks:
        """The zeros that matrices have now; those without any are free."""
        own = dict(model.named_parameters())
        return cls({name: own[name].data != 0 for name in names if name in own and bool((own[name] == 0).any())})

    def hold(self, model: nn.Module) -> None:
        """Set pruned weights to zero, and their gradients where there are any."""
        with torch.no_grad():
            for name, kept in self.kept.items():
                parameter = model.get_parameter(name)
                parameter.mul_(kept)
                if parameter.grad is not None:
                    parameter.grad.mul_(kept)

    def broken(self, model: nn.Module) -> list[str]:
        """Names of parameters where a pruned weight is not zero."""
        return [name for name, kept in self.kept.items() if bool((model.get_parameter(name).data[~kept] != 0).any())]
