"""Scales of elements under a sparsity regulariser: network slimming, polarization, mask sparsity."""

from __future__ import annotations

import torch

from sparsesearch.bilevel.base import Decision, Learner, Moment, Size, learned, learner
from sparsesearch.bilevel.relaxed import Openings, Relaxed
from sparsesearch.bilevel.selection import Ranking
from sparsesearch.supernet.store import UnitFiles

# How much sizes of weights count in a ranking of scales.
TIE = 1e-3


@learner("slimming")
class Scales(Learner):
    """A factor γ in [0, 1] on every element, trained beside the weights; the largest stay, by one ranking.

    The penalty is the mean over all elements of |γ| (network slimming, Liu et al., ICCV 2017), of t|γ| - |γ - mean γ|
    (polarization, Zhuang et al., NeurIPS 2020, t = `tilt`), or of |γ| where sizes of the weights say that an element
    will go (mask sparsity, Jiang et al., 2023); `strength` times it counts once the ramp is behind, less before.
    """

    soft_numbers = 2
    learns_each_weight = True

    def __init__(self, relaxed: Relaxed, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        for name, unit in self.units.items():
            self.parameters[name] = learned(torch.ones(relaxed.shape(unit), device=self.device))

    def begin(self, size: Size) -> None:
        """Which elements go if sizes of weights decide, for mask sparsity."""
        if self.options.regulariser != "mask":
            return
        sizes = self._sizes()
        found = self._masks(size, {name: s / s.mean().clamp_min(1e-30) for name, s in sizes.items()})
        self.kept_beside.update({name: 1 - mask for name, mask in found.items()})

    def _sizes(self) -> dict[str, torch.Tensor]:
        return {name: self.relaxed.size(unit).detach() for name, unit in self.units.items()}

    def _masks(self, size: Size, scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        ranking = Ranking(self.units, scores)
        return ranking.masks(ranking.counts(ranking.threshold(size, size.wanted(1.0))))

    def openings(self, moment: Moment) -> Openings:
        return self.parameters

    def penalty(self, moment: Moment) -> torch.Tensor:
        scales = torch.cat([scale.flatten() for scale in self.parameters.values()])
        return float(self.options.strength) * moment.ramped * self._sparsity(scales)

    def _sparsity(self, scales: torch.Tensor) -> torch.Tensor:
        if self.options.regulariser == "mask":
            goes = torch.cat([self.kept_beside[name].flatten() for name in self.parameters])
            return (scales.abs() * goes).mean()
        if self.options.regulariser == "polarization":
            return (float(self.options.tilt) * scales.abs() - (scales - scales.mean()).abs()).mean()
        return scales.abs().mean()

    def project(self, moment: Moment) -> None:
        with torch.no_grad():
            for scale in self.parameters.values():
                scale.clamp_(0, 1)

    def decide(self, moment: Moment) -> Decision:
        """The largest scales, folded into the weights that they multiply."""
        scales = {name: scale.detach() for name, scale in self.parameters.items()}
        # Of equal scales, as at the ends, the larger weights stay.
        scores = {n: scales[n] * (1 + TIE * s / s.max().clamp_min(1e-30)) for n, s in self._sizes().items()}
        masks = self._masks(moment.size, scores)
        kept = {name: float(self.counted(name, mask)) for name, mask in masks.items()}
        folded = {name: tensor.detach() for name, tensor in self.relaxed.tensors(scales).items()}
        return Decision(kept, scores, folded)
