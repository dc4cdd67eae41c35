"""The forms a candidate can be written in, from most to least widely loadable gains."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel

from sparsesearch.errors import InputError, did_you_mean
from sparsesearch.models.family import FAMILIES
from sparsesearch.models.network import Network
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet

FORMS = {
    "zeros": "the dense shapes with zeros in place; loads everywhere, gains neither speed nor file size",
    "uniform": "one width for all layers, whole layers removed and renumbered; stock code, real gains",
    "uneven": "every layer its own sizes, dropped sublayers; sparsesearch.load or trust_remote_code, real gains",
}
# Lists of a configuration that have an entry for each layer.
LAYER_LISTS = ("layer_types", "no_rope_layers")

State = dict[str, torch.Tensor]


def uniform(supernet: StitchedSupernet, genome: Genome) -> tuple[Any, State] | str:
    """A stock configuration and the state that fits it, or why no stock configuration can say this genome."""
    if not isinstance(supernet.model, PreTrainedModel):
        return "a module of your own has no stock configuration"
    state, blocks = supernet.state_dict(genome), kept_blocks(supernet, genome)
    if not blocks:
        return "no layer of this candidate is left"
    config = copy.deepcopy(supernet.model.config)
    try:
        problem = _set_sizes(config, supernet, genome, blocks)
        if problem:
            return problem
        if hasattr(config, "validate"):
            config.validate()
        with torch.device("meta"):
            stock = type(supernet.model)(config)
    except (StrictDataclassError, ValueError, RuntimeError, TypeError) as error:
        return f"the stock configuration refuses these shapes ({str(error).strip().splitlines()[-1].strip()})"
    if supernet.gains_biases(genome):
        return "biases compensate this candidate's pruning where the stock model has none"
    state, wanted = renumbered(state, supernet.network, blocks), _shapes(dict(stock.named_parameters()))
    if wanted != {name: shape for name, shape in _shapes(state).items() if name in wanted}:
        return "layers of this candidate differ in size or miss a sublayer, which no stock configuration can say"
    return config, state


def _shapes(tensors: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def kept_blocks(supernet: StitchedSupernet, genome: Genome) -> list[int]:
    """Blocks that keep at least one sublayer."""
    sublayers: dict[int, list[bool]] = defaultdict(list)
    for drop in supernet.network.drops.values():
        sublayers[drop.block].append(not supernet.composer.dropped(genome, drop.name))
    return [i for i in range(len(supernet.network.blocks)) if any(sublayers[i] or [True])]


def _set_sizes(config: Any, supernet: StitchedSupernet, genome: Genome, blocks: list[int]) -> str:
    """Write one size for all layers into a configuration; a problem where layers differ."""
    family, kept = FAMILIES.get(config.model_type), supernet.kept(genome)
    fields = family.uniform if family else {}
    for kind in {cut.kind for cut in supernet.network.cuts.values()}:
        sizes = {
            (c.elements, kept[c.name]) for c in supernet.network.cuts.values() if c.kind == kind and c.block in blocks
        }
        if all(dense == left for dense, left in sizes):
            continue
        if len(sizes) > 1:
            return f"layers of this candidate differ in {kind}, which no stock configuration can say"
        if kind not in fields:
            return f"no stock configuration of {config.model_type} can say fewer {kind}"
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
    return ""


def _first(supernet: StitchedSupernet, kind: str) -> str:
    return next(cut.path for cut in supernet.network.cuts.values() if cut.kind == kind)


def renumbered(state: State, network: Network, blocks: list[int]) -> State:
    """Tensors of the kept blocks under consecutive block numbers."""
    number = {network.blocks[old]: network.blocks[new] for new, old in enumerate(blocks)}
    result = {}
    for name, tensor in state.items():
        block = next((b for b in network.blocks if name.startswith(f"{b}.")), None)
        if block is None:
            result[name] = tensor
        elif block in number:
            result[re.sub(rf"^{re.escape(block)}\.", f"{number[block]}.", name)] = tensor
    return result


def zeros_problem(supernet: StitchedSupernet, genome: Genome) -> str:
    """Why zeros in dense shapes would not be this candidate; empty where they are."""
    kept = supernet.kept(genome)
    if supernet.gains_biases(genome):
        return "biases compensate this candidate's pruning where the stock model has none"
    for cut in supernet.network.cuts.values():
        if cut.kind == "experts" and kept[cut.name] < cut.elements:
            return f"zeros cannot say that {cut.path} lost experts: the router would still choose them"
    return ""


def choose(form: str, zeros: str, uniform: str, shapes_differ: bool) -> str:
    """The form to write: `auto` takes the most widely loadable one that has all the gains.

    Args:
        form: `auto` or a name in `FORMS`.
        zeros, uniform: why the candidate cannot take these forms; empty where it can.
        shapes_differ: whether any tensor is smaller than in the dense model.

    Raises InputError SS102 for an unknown form, SS502 where the candidate cannot take it.
    """
    if form == "auto":
        if not shapes_differ:
            return "zeros"
        return "uneven" if uniform else "uniform"
    if form not in FORMS:
        near = did_you_mean(form, FORMS)
        raise InputError("SS102", f"form {form!r} not found. {near}Allowed: auto, {', '.join(FORMS)}.")
    problem = {"zeros": zeros, "uniform": uniform}.get(form, "")
    if problem:
        others = "--form uneven (sparsesearch.load or trust_remote_code)" + (
            "" if zeros else " or --form zeros (no gains)"
        )
        raise InputError("SS502", f"{problem}.", f"Use {others}.")
    return form
