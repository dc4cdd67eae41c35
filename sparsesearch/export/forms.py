"""The forms a candidate can be written in, from most to least widely loadable gains."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from sparsesearch.errors import InputError, did_you_mean
from sparsesearch.models.shape import Shape

FORMS = {
    "zeros": "the dense shapes with zeros in place; loads everywhere, gains neither speed nor file size",
    "uniform": "one width for all layers, whole layers removed and renumbered; stock transformers, real gains",
    "uneven": "every layer its own widths, dropped sublayers; sparsesearch.load or trust_remote_code, real gains",
}


def kept_blocks(shapes: Sequence[Shape]) -> list[int]:
    """Blocks that keep at least one sublayer."""
    return [i for i, s in enumerate(shapes) if s["kv_groups"] or s["ffn_width"]]


def uniform_problem(config: Any, shapes: Sequence[Shape], head_dim: int, queries: int) -> str:
    """Why no stock configuration can say these shapes; empty where one can."""
    kept = [shapes[i] for i in kept_blocks(shapes)]
    if not kept or any(s != kept[0] or not (s["kv_groups"] and s["ffn_width"]) for s in kept):
        return "layers of this candidate differ in width or miss a sublayer, which no stock configuration can say"
    try:
        uniform_config(config, shapes, head_dim, queries).validate()
    except StrictDataclassError as error:  # Llama wants the hidden size to be a multiple of the query heads
        return f"the stock configuration refuses these shapes ({str(error).splitlines()[-1].strip()})"
    return ""


def choose(form: str, shapes: Sequence[Shape], dense: Shape, problem: str) -> str:
    """The form to write: `auto` takes the most widely loadable one that has all the gains.

    Args:
        form: `auto` or a name in `FORMS`.
        shapes, dense: of every block, and of a dense block.
        problem: what `uniform_problem` says.

    Raises InputError SS102 for an unknown form, SS502 where the candidate cannot take it.
    """
    if form == "auto":
        if all(s == dense for s in shapes):
            return "zeros"
        return "uneven" if problem else "uniform"
    if form not in FORMS:
        near = did_you_mean(form, FORMS)
        raise InputError("SS102", f"form {form!r} not found. {near}Allowed: auto, {', '.join(FORMS)}.")
    if form == "uniform" and problem:
        raise InputError(
            "SS502", f"{problem}.",
            "Use --form uneven (sparsesearch.load or trust_remote_code) or --form zeros (no gains).",
        )  # fmt: skip
    return form


def uniform_config(config: Any, shapes: Sequence[Shape], head_dim: int, queries: int) -> Any:
    """A stock configuration of these uniform shapes."""
    blocks = kept_blocks(shapes)
    shape = shapes[blocks[0]]
    result = copy.deepcopy(config)
    result.head_dim = head_dim
    result.num_key_value_heads = shape["kv_groups"]
    result.num_attention_heads = shape["kv_groups"] * queries
    result.intermediate_size = shape["ffn_width"]
    result.num_hidden_layers = len(blocks)
    if getattr(config, "layer_types", None):
        result.layer_types = [config.layer_types[i] for i in blocks]
    return result


def renumbered(state: dict[str, Any], shapes: Sequence[Shape]) -> dict[str, Any]:
    """Parameters of the kept blocks under consecutive block numbers."""
    number = {old: new for new, old in enumerate(kept_blocks(shapes))}
    result = {}
    for name, tensor in state.items():
        head, layers, rest = name.partition("layers.")
        if not layers:
            result[name] = tensor
            continue
        index, _, leaf = rest.partition(".")
        if int(index) in number:
            result[f"{head}layers.{number[int(index)]}.{leaf}"] = tensor
    return result
