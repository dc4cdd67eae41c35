"""The stitched supernet: one live network that becomes any genome by swapping the tensors that differ."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from sparsesearch.models.network import Cut, Drop, Network
from sparsesearch.models.surgery import Surgery, apply_surgery, set_attribute, set_tensor, stand_in
from sparsesearch.space import Genome, Space
from sparsesearch.supernet.compose import Composer, TensorLevels
from sparsesearch.supernet.store import UnitFiles

# Form of cut tensors: `sliced` with smaller shapes, `in_place` with zeros in the dense shape.
Execution = Literal["sliced", "in_place"]


class StitchedSupernet:
    """Executes genomes on one network.

    `apply` changes only tensors whose levels differ from those last applied. It is transactional per tensor: a tensor's
    state is forgotten before it changes, so after an exception the next `apply` sets it again.
    """

    def __init__(
        self,
        model: Any,
        network: Network,
        space: Space,
        files: UnitFiles,
        execution: Execution = "sliced",
        compensate: bool = False,
    ) -> None:
        """
        Args:
            model: the dense network.
            network: its description.
            space: the space of genomes.
            files: levels of a level store.
            execution: form of cut tensors.
            compensate: whether biases compensate the change of mean outputs by pruning (`pruners.compensate`).
        """
        self.model, self.network, self.space, self.execution = model, network, space, execution
        self.composer = Composer(model, network, space, files, compensate)
        position = {unit.name: i for i, unit in enumerate(space.units)}
        self._cuts = [(cut, position[cut.name]) for cut in network.cuts.values() if cut.name in position]
        self._drops = [drop for drop in network.drops.values() if drop.name in position]
        # Kept here, since tensors and modules that are swapped in later hide them from the model.
        self._tensors = state_of(model)
        self._owner = {name: model.get_submodule(name.rpartition(".")[0]) for name in self.composer.plans}
        self._stock = {p: model.get_submodule(p) for drop in self._drops for p, _ in drop.stand_ins}
        self._sized = {a.module: model.get_submodule(a.module) for cut, _ in self._cuts for a in cut.attributes}
        names = {*self._tensors, *self.composer.plans}
        self._drops_of = {name: [d for d in self._drops if d.removes(name)] for name in names}
        self._applied: dict[str, Any] = {name: (0,) * len(self.composer.counts(name)) for name in self.composer.plans}
        self._sizes = {cut.name: 0 for cut, _ in self._cuts}
        self._dropped = {drop.name: False for drop in self._drops}
        self._trained: dict[Genome, dict[str, torch.Tensor]] = {}

    @contextmanager
    def with_trained_weights(self, genome: Genome, state: dict[str, torch.Tensor] | None) -> Iterator[None]:
        """Give a genome trained weights in `state_dict`, `surgery` and `materialise`; `apply` does not use them.

        Args:
            state: weights by name, in the shapes of `state_dict`; None: those of the supernet.
        """
        if state is None:
            yield
            return
        self._trained[genome] = state
        try:
            yield
        finally:
            del self._trained[genome]

    def has_trained_weights(self, genome: Genome) -> bool:
        """Return whether a genome has trained weights inside `with_trained_weights`."""
        return genome in self._trained

    def apply(self, genome: Genome) -> Any:
        """Turn the network into the genome and return it; the network stays the supernet's own."""
        if self.execution == "sliced":
            for drop in self._drops:
                self._swap(drop, self.composer.is_dropped(genome, drop.name))
            for cut, position in self._cuts:
                self._resize(cut, position, int(genome.levels[position]))
        for name in self.composer.plans:
            dropped = self._is_dropped(genome, name)
            if dropped and self.execution == "sliced":
                continue
            compensated = self.composer.plans[name].compensates
            outputs = {name} if compensated is None else {name, compensated.name}
            zero = dropped and any(outputs & set(drop.outputs) for drop in self._drops_of[name])
            self._set(name, None if zero else self.composer.levels(genome, name))
        return self.model

    def _is_dropped(self, genome: Genome, name: str) -> bool:
        return any(self.composer.is_dropped(genome, drop.name) for drop in self._drops_of[name])

    def _swap(self, drop: Drop, dropped: bool) -> None:
        if self._dropped[drop.name] == dropped:
            return
        for path, name in drop.stand_ins:
            stock = self._stock[path]
            self.model.set_submodule(path, stand_in(name, stock) if dropped else stock)
        self._dropped[drop.name] = dropped

    def _resize(self, cut: Cut, position: int, level: int) -> None:
        if self._sizes[cut.name] == level:
            return
        for module, name, value in self._sizes_at(cut, position, level):
            set_attribute(self._sized[module], name, value)
        self._sizes[cut.name] = level

    def _sizes_at(self, cut: Cut, position: int, level: int) -> list[tuple[str, str, int]]:
        """Return the attributes of a cut at a level, (module, name, value), by the position of its unit."""
        kept = self.space.units[position].levels[level]
        return [(a.module, a.name, a.per_element * kept) for a in cut.attributes]

    def forget_running_statistics(self) -> None:
        """Mark running statistics as changed, so that the next genome sets them again."""
        for name in self.composer.running_statistics:
            self._applied[name] = "measured again"

    def _set(self, name: str, levels: TensorLevels | None) -> None:
        """Set a tensor to its levels, or to zero if None."""
        if self._applied[name] == levels:
            return
        self._applied[name] = "changing"
        tensor: torch.Tensor | None
        if levels is None:
            dense = self.composer.dense.get(name)
            tensor = None if dense is None else torch.zeros_like(dense)
        else:
            tensor = self._at(name, levels, padded=self.execution == "in_place")
        if tensor is not None and name in self.composer.running_statistics:
            tensor = tensor.clone()  # re-estimation writes into it
        set_tensor(self._owner[name], name.rpartition(".")[2], tensor)
        self._applied[name] = levels

    def _at(self, name: str, levels: TensorLevels, padded: bool) -> torch.Tensor | None:
        return self.composer.padded_tensor(name, levels) if padded else self.composer.tensor(name, levels)

    def kept(self, genome: Genome) -> dict[str, int]:
        """Return the number of elements that every cut of the network keeps in each order, by the cut's name."""
        kept = {cut.name: cut.elements for cut in self.network.cuts.values()}
        return kept | {u.name: u.levels[i] for u, i in zip(self.space.units, genome.levels, strict=True) if u.is_cut}

    def gains_biases(self, genome: Genome) -> bool:
        """Return whether the genome has biases, to compensate its pruning, that the stock model does not have."""
        added = (name for name in self.composer.added if not self._is_dropped(genome, name))
        return any(any(self.composer.levels(genome, name)) for name in added)

    def surgery(self, genome: Genome) -> Surgery:
        """Return the changes that `models.surgery` must make to the stock model so that `state_dict` fits it."""
        state = self.state_dict(genome)
        dense = {name: tensor.shape for name, tensor in self._tensors.items()}
        shapes = {name: list(t.shape) for name, t in state.items() if t.shape != dense.get(name)}
        dropped = [drop for drop in self._drops if self.composer.is_dropped(genome, drop.name)]
        attributes = [
            list(item)
            for cut, position in self._cuts
            if genome.levels[position] and not any(drop.removes(f"{cut.path}.") for drop in dropped)
            for item in self._sizes_at(cut, position, int(genome.levels[position]))
        ]
        stand_ins = [list(pair) for drop in dropped for pair in drop.stand_ins]
        return {"shapes": shapes, "attributes": attributes, "stand_ins": stand_ins}

    def state_dict(self, genome: Genome, padded: bool = False) -> dict[str, torch.Tensor]:
        """Return every tensor of the genome by name, as a separate model would hold it.

        Args:
            padded: keep dense shapes, with zeros for cut and dropped weights; else these are left out.
        """
        if genome in self._trained:
            trained = self._trained[genome]
            return self._pad(genome, trained) if padded else trained
        state: dict[str, torch.Tensor | None] = {}
        for name in (*self._tensors, *self.composer.added):
            if self._is_dropped(genome, name):
                state[name] = torch.zeros_like(self._tensors[name]) if padded and name in self._tensors else None
            elif name not in self.composer.plans:
                state[name] = self._tensors[name]
            else:
                state[name] = self._at(name, self.composer.levels(genome, name), padded)
        return {name: tensor for name, tensor in state.items() if tensor is not None}

    def _pad(self, genome: Genome, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a state in the dense shapes, with zeros for cut and dropped weights."""
        zeros = {name: torch.zeros_like(tensor) for name, tensor in self._tensors.items()}
        plans = self.composer.plans
        return zeros | {n: self.composer.pad_value(n, genome, t) if n in plans else t for n, t in state.items()}

    def materialise(self, genome: Genome) -> Any:
        """Return a new, smaller network of the genome, independent of the supernet."""
        model = stock_model(self.apply(self.space.dense))
        apply_surgery(model, self.surgery(genome))
        load_exactly(model, self.state_dict(genome))
        return model.eval().requires_grad_(False)


def stock_model(model: Any) -> Any:
    """Return a new dense network of the same class, configuration, type and device, with undefined weights.

    Args:
        model: a network in its dense state, since a module without a configuration is copied.
    """
    if isinstance(model, PreTrainedModel):
        return type(model)._from_config(copy.deepcopy(model.config), dtype=model.dtype).to(model.device)
    return copy.deepcopy(model)


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters, tied ones once, and the buffers that checkpoints hold, by name."""
    parameters = {name: parameter.data for name, parameter in model.named_parameters()}
    saved = model.state_dict(keep_vars=True)
    return parameters | {name: buffer for name, buffer in model.named_buffers() if name in saved}


def load_exactly(model: Any, state: dict[str, torch.Tensor]) -> None:
    """Copy a state into a model; raises ValueError unless both have the same tensors (tied ones need not be given)."""
    if isinstance(model, PreTrainedModel):
        model.tie_weights()
    missing, unexpected = model.load_state_dict(state, strict=False)
    parameters = {name for name, _ in model.named_parameters()}
    absent = [name for name in missing if name in parameters]
    if absent or unexpected:
        raise ValueError(f"state does not fit the model: missing {absent[:3]}, unexpected {unexpected[:3]}")
