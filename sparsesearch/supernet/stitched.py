"""The stitched supernet: one live network that becomes any genome by swapping what changed."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from sparsesearch.models.architecture import Architecture
from sparsesearch.models.shape import NoAttention, NoFFN, Shape, apply_shapes
from sparsesearch.space import Genome, Space
from sparsesearch.supernet.compose import Composer
from sparsesearch.supernet.store import UnitFiles

# How cut units run: `sliced` with really smaller matrices, `in_place` with zeros in matrices of the dense shape.
Execution = Literal["sliced", "in_place"]


class StitchedSupernet:
    """Executes genomes on one network.

    `apply` touches only linears whose levels differ from those last applied. It is transactional per linear: a linear's
    state is forgotten before its weights change, so after an exception the next `apply` sets it again.
    """

    def __init__(
        self, model: Any, architecture: Architecture, space: Space, files: UnitFiles, execution: Execution = "sliced"
    ) -> None:
        self.model, self.architecture, self.space, self.execution = model, architecture, space, execution
        self.composer = Composer(model, architecture, space, files)
        self._applied: dict[str, Any] = dict.fromkeys(self.composer.linears, (0, 0))
        self._dropped: dict[str, bool] = {s.path: False for s in architecture.sublayers}
        self._stock = {p: model.get_submodule(p) for s in architecture.sublayers for p in (s.path, s.norm)}

    def apply(self, genome: Genome) -> Any:
        """Turn the network into the genome and return it; the network stays the supernet's own."""
        for sublayer in self.architecture.sublayers:
            dropped = self.composer.dropped(genome, sublayer.path)
            if self.execution == "sliced":
                self._swap_sublayer(sublayer.path, sublayer.norm, dropped, sublayer.kind, sublayer.block)
                if dropped:
                    continue
            for linear in sublayer.linears:
                silent = dropped and linear is sublayer.output
                self._set_linear(linear.path, None if silent else self.composer.levels(genome, linear.path))
        return self.model

    def _swap_sublayer(self, path: str, norm: str, dropped: bool, kind: str, block: int) -> None:
        if self._dropped[path] == dropped:
            return
        stand_in: nn.Module = NoAttention(block) if kind == "attention" else NoFFN()
        self.model.set_submodule(path, stand_in if dropped else self._stock[path])
        self.model.set_submodule(norm, nn.Identity() if dropped else self._stock[norm])
        self._dropped[path] = dropped

    def _set_linear(self, path: str, levels: tuple[int, int] | None) -> None:
        """Set a linear to its levels, or, where None, to output exactly zero."""
        if self._applied[path] == levels:
            return
        module = self.model.get_submodule(path)
        self._applied[path] = "changing"
        bias: torch.Tensor | None
        if levels is None:
            weight = torch.zeros_like(self.composer.dense[path])
            bias = torch.zeros_like(self.composer.bias[path]) if path in self.composer.bias else None
        elif self.execution == "sliced":
            weight, bias = self.composer.weight(path, levels), self.composer.bias_of(path, levels)
        else:
            weight, bias = self.composer.padded(path, levels)
        module.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            module.bias = nn.Parameter(bias, requires_grad=False)
        self._applied[path] = levels

    def shapes(self, genome: Genome) -> list[Shape]:
        """KV groups and FFN neurons of every block as the genome leaves them; 0 where dropped."""
        shapes: list[Shape] = [{} for _ in self.architecture.blocks]
        elements = {u.name: u.levels[i] for u, i in zip(self.space.units, genome.levels.tolist(), strict=True)}
        for sublayer in self.architecture.sublayers:
            dropped = self.composer.dropped(genome, sublayer.path)
            kept = elements.get(sublayer.cut_unit, sublayer.elements)
            shapes[sublayer.block][sublayer.cut_kind] = 0 if dropped else kept
        return shapes

    def state_dict(self, genome: Genome, padded: bool = False) -> dict[str, torch.Tensor]:
        """Every parameter of the genome as a model of its own would hold it.

        Args:
            padded: keep dense shapes, with zeros for what is cut or dropped; else leave those out.
        """
        state = dict(self._other_parameters())
        for sublayer in self.architecture.sublayers:
            tensors = {name: state.pop(name) for name in (f"{sublayer.norm}.weight", *sublayer.extras)}
            for linear in sublayer.linears:
                tensors |= self._linear_state(genome, linear.path, padded)
            if self.composer.dropped(genome, sublayer.path):
                tensors = {name: torch.zeros_like(t) for name, t in tensors.items()} if padded else {}
            state |= tensors
        return state

    def _linear_state(self, genome: Genome, path: str, padded: bool) -> dict[str, torch.Tensor]:
        levels = self.composer.levels(genome, path)
        if padded:
            weight, bias = self.composer.padded(path, levels)
        else:
            weight, bias = self.composer.weight(path, levels), self.composer.bias_of(path, levels)
        return {f"{path}.weight": weight} | ({} if bias is None else {f"{path}.bias": bias})

    def _other_parameters(self) -> list[tuple[str, torch.Tensor]]:
        stock = [(f"{p}.{n}", t) for p, module in self._stock.items() for n, t in module.named_parameters()]
        live = list(self.model.named_parameters())
        parameters = dict(live) | dict(stock)
        return [(n, t.data) for n, t in parameters.items() if n.rpartition(".")[0] not in self.composer.linears]

    def materialise(self, genome: Genome) -> Any:
        """A new, really smaller network of the genome, independent of the supernet."""
        model = AutoModelForCausalLM.from_config(copy.deepcopy(self.model.config), dtype=self.model.dtype)
        apply_shapes(model, self.shapes(genome))
        load_exactly(model, self.state_dict(genome))
        return model.eval().requires_grad_(False)


def load_exactly(model: Any, state: dict[str, torch.Tensor]) -> None:
    """Copy a state into a model; every parameter must be there and none be left over (tied heads follow)."""
    model.tie_weights()
    missing, unexpected = model.load_state_dict(state, strict=False)
    own = {name for name, _ in model.named_parameters()}
    absent = [name for name in missing if name in own]
    if absent or unexpected:
        raise ValueError(f"state does not fit the model: missing {absent[:3]}, unexpected {unexpected[:3]}")
