"""Forms that stock transformers loads: zeros in dense shapes, one size for all layers, or layers padded to one size.

Each function returns a function that makes the model (float32), or raises CannotTakeForm.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel

from sparsesearch.export.forms.form import CannotTakeForm, Maker
from sparsesearch.models.family import FAMILIES
from sparsesearch.models.network import Cut, Network, Slot
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.compose import select
from sparsesearch.supernet.stitched import load_exactly, stock_model

State = dict[str, torch.Tensor]

# Fields of a configuration that are lists with an entry for each layer.
LAYER_LISTS = ("layer_types", "no_rope_layers")
ADDED_BIASES = "biases that the stock model does not have compensate this candidate's pruning"
OWN_MODULE = "a module of your own has no stock configuration"


def plan_zeros(supernet: StitchedSupernet, genome: Genome) -> Maker:
    """Plan the form with dense shapes, and zeros for everything that is pruned, cut or dropped."""
    kept = supernet.kept(genome)
    if supernet.gains_biases(genome):
        raise CannotTakeForm(ADDED_BIASES)
    for cut in supernet.network.cuts.values():
        if cut.kind == "experts" and kept[cut.name] < cut.elements:
            raise CannotTakeForm(f"zeros cannot remove experts of {cut.path}: the router would still choose them")

    def make() -> Any:
        model = stock_model(supernet.apply(supernet.space.dense))
        load_exactly(model, supernet.state_dict(genome, padded=True))
        return model.eval()

    return make


def plan_uniform(supernet: StitchedSupernet, genome: Genome) -> Maker:
    """Plan the form with the candidate's own sizes, if a stock configuration can express them."""
    kept = supernet.kept(genome)
    blocks = kept_blocks(supernet, genome)
    sizes = {name: kept[name] for name, cut in supernet.network.cuts.items() if cut.block in blocks}
    return _stock(supernet, genome, blocks, sizes, lambda: supernet.state_dict(genome))


def plan_padded(supernet: StitchedSupernet, genome: Genome) -> Maker:
    """Plan the form with every layer as wide as the widest of its kind; padding and dropped sublayers are zeros."""
    blocks = kept_blocks(supernet, genome)
    sizes = widest_sizes(supernet, genome, blocks)
    kept = supernet.kept(genome)
    for name, size in sizes.items():
        cut = supernet.network.cuts[name]
        if cut.kind == "experts" and kept[name] < size:
            raise CannotTakeForm(
                f"padding cannot replace removed experts of {cut.path}: the router would choose the zeros"
            )
    return _stock(supernet, genome, blocks, sizes, lambda: _padded_state(supernet, genome, sizes))


def widest_sizes(supernet: StitchedSupernet, genome: Genome, blocks: list[int]) -> dict[str, int]:
    """Return, for each cut of the kept blocks, the most elements that any cut of its kind and dense size keeps.

    Dropped sublayers are ignored; if all of a kind are dropped, its smallest size is used.
    """
    kept, most = supernet.kept(genome), dict[tuple[str, int], int]()
    cuts = {name: cut for name, cut in supernet.network.cuts.items() if cut.block in blocks}
    for name, cut in cuts.items():
        key = (cut.kind, cut.elements)
        size = cut.minimum if _is_dropped(supernet, genome, cut) else kept[name]
        most[key] = max(most.get(key, 0), size)
    return {name: most[cut.kind, cut.elements] for name, cut in cuts.items()}


def _is_dropped(supernet: StitchedSupernet, genome: Genome, cut: Cut) -> bool:
    tensor = (*cut.writers, *cut.readers)[0].tensor
    drops = supernet.network.drops.values()
    return any(drop.removes(tensor) and supernet.composer.is_dropped(genome, drop.name) for drop in drops)


def _padded_state(supernet: StitchedSupernet, genome: Genome, sizes: Mapping[str, int]) -> State:
    """Return the candidate with zeros in dense shapes, narrowed to these sizes."""
    state = supernet.state_dict(genome, padded=True)
    units = {unit.name: i for i, unit in enumerate(supernet.space.units)}
    slots: dict[str, list[tuple[Slot, torch.Tensor]]] = defaultdict(list)
    for name, size in sizes.items():
        cut = supernet.network.cuts[name]
        if size < cut.elements:
            level = int(genome.levels[units[name]]) if name in units else 0
            unit = supernet.space.units[units[name]] if level else None
            kept = supernet.composer.files.kept(unit, level, cut.elements) if unit else None
            stays = _fill_up(kept, size, cut)
            for slot in (*cut.writers, *cut.readers):
                slots[slot.tensor].append((slot, stays))
    return {name: _narrow(tensor, slots.get(name, [])) for name, tensor in state.items()}


def _fill_up(kept: torch.Tensor | None, size: int, cut: Cut) -> torch.Tensor:
    """Return the kept elements and the first others, `size` in each order, ascending, (orders, size).

    Args:
        kept: kept elements, (orders, count); None: any, since the sublayer is dropped.
    """
    rows = []
    for order in range(cut.orders):
        selected = torch.zeros(cut.elements, dtype=torch.bool)
        if kept is not None:
            selected[kept[order][:size]] = True
        others = (~selected).nonzero().flatten()[: size - int(selected.sum())]
        selected[others] = True
        rows.append(selected.nonzero().flatten())
    return torch.stack(rows)


def _narrow(tensor: torch.Tensor, slots: list[tuple[Slot, torch.Tensor]]) -> torch.Tensor:
    # Batched slots select within each slice of axis 0, so they come before slices are removed.
    for slot, elements in slots:
        if slot.batched:
            tensor = select(tensor, slot, slot.positions_of(elements))
    staying: dict[int, torch.Tensor] = {}
    for slot, elements in slots:
        if not slot.batched:
            stays = slot.mask_of(elements, tensor.shape[slot.axis])
            staying[slot.axis] = stays & staying.get(slot.axis, stays)
    for axis, stays in staying.items():
        tensor = tensor.index_select(axis, stays.nonzero().flatten())
    return tensor


def _stock(
    supernet: StitchedSupernet, genome: Genome, blocks: list[int], sizes: Mapping[str, int], state: Callable[[], State]
) -> Maker:
    """Return the function that makes a stock model of these blocks and sizes, if a configuration expresses it."""
    if not isinstance(supernet.model, PreTrainedModel):
        raise CannotTakeForm(OWN_MODULE)
    if not blocks:
        raise CannotTakeForm("no layer of this candidate is left")
    config = copy.deepcopy(supernet.model.config)
    # GPT-2 can divide attention by the layer's number, which changes if earlier layers are removed.
    if getattr(config, "scale_attn_by_inverse_layer_idx", False) and blocks != list(range(len(blocks))):
        raise CannotTakeForm("whole layers are removed, but attention is scaled by the number of its layer")
    try:
        _set_sizes(config, supernet, sizes, blocks)
        if hasattr(config, "validate"):
            config.validate()
        with torch.device("meta"):
            stock = type(supernet.model)(config)
    except (StrictDataclassError, ValueError, RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CannotTakeForm(f"the stock configuration refuses these shapes ({reason})") from None
    if supernet.gains_biases(genome):
        raise CannotTakeForm(ADDED_BIASES)
    tensors = renumber_blocks(state(), supernet.network, blocks)
    stock_shapes = _shapes(dict(stock.named_parameters()))
    if stock_shapes != {name: shape for name, shape in _shapes(tensors).items() if name in stock_shapes}:
        raise CannotTakeForm(
            "layers of this candidate differ in size or miss a sublayer, which no stock configuration can express"
        )

    def make() -> Any:
        model = type(supernet.model)._from_config(config, dtype=torch.float32)
        load_exactly(model, tensors)
        return model

    return make


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def kept_blocks(supernet: StitchedSupernet, genome: Genome) -> list[int]:
    """Return the indices of the blocks that keep at least one sublayer."""
    sublayers: dict[int, list[bool]] = defaultdict(list)
    for drop in supernet.network.drops.values():
        sublayers[drop.block].append(not supernet.composer.is_dropped(genome, drop.name))
    return [i for i in range(len(supernet.network.blocks)) if any(sublayers[i] or [True])]


def _set_sizes(config: Any, supernet: StitchedSupernet, kept: Mapping[str, int], blocks: list[int]) -> None:
    """Write one size for all layers into a configuration; raises CannotTakeForm if layers differ."""
    family = FAMILIES.get(config.model_type)
    fields = family.width_fields if family else {}
    for kind in dict.fromkeys(cut.kind for cut in supernet.network.cuts.values()):
        sizes = {
            (c.elements, kept[c.name]) for c in supernet.network.cuts.values() if c.kind == kind and c.name in kept
        }
        if all(dense == left for dense, left in sizes):
            continue
        if len(sizes) > 1:
            raise CannotTakeForm(f"layers of this candidate differ in {kind}, which no stock configuration can express")
        if kind not in fields:
            raise CannotTakeForm(f"no stock configuration of {config.model_type} can express fewer {kind}")
        ((dense, left),) = sizes
        if hasattr(config, "head_dim") and kind in ("kv_groups", "q_heads"):
            config.head_dim = getattr(supernet.model.get_submodule(_first(supernet, kind)), "head_dim", config.head_dim)
        for name in fields[kind]:
            value = getattr(config, name)
            if value is None:
                value = dense
            setattr(config, name, value * left // dense)
    config.num_hidden_layers = len(blocks)
    for name in LAYER_LISTS:
        if getattr(config, name, None):
            setattr(config, name, [getattr(config, name)[i] for i in blocks])


def _first(supernet: StitchedSupernet, kind: str) -> str:
    return next(cut.path for cut in supernet.network.cuts.values() if cut.kind == kind)


def renumber_blocks(state: State, network: Network, blocks: list[int]) -> State:
    """Return the tensors of a state with the kept blocks renumbered consecutively."""
    number = {network.blocks[old]: network.blocks[new] for new, old in enumerate(blocks)}
    result = {}
    for name, tensor in state.items():
        block = next((b for b in network.blocks if name.startswith(f"{b}.")), None)
        if block is None:
            result[name] = tensor
        elif block in number:
            result[re.sub(rf"^{re.escape(block)}\.", f"{number[block]}.", name)] = tensor
    return result
