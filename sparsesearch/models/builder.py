"""Building blocks of family maps: each call describes one sublayer by the names and sizes of its modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from sparsesearch.models.network import Attention, Attribute, Cut, Drop, Index, Matrix, Slot

# Rows of 16 bytes are what torch's grouped matrix product needs, in half precision.
EXPERT_ALIGN = 8


def span(elements: int, size: int, offset: int = 0) -> Index:
    """Index of elements that lie side by side, `size` positions each, shape (1, elements, size)."""
    return (offset + np.arange(elements * size, dtype=np.int64)).reshape(1, elements, size)


def joined(*parts: Index) -> Index:
    """Index of elements that lie in several places, as in fused projections."""
    return np.concatenate(parts, axis=-1)


# Convolutions whose weights are matrices of unfolded patches.
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (nn.Linear, Conv1D, *CONVOLUTIONS)


def weighted(model: nn.Module) -> list[tuple[str, Any]]:
    """The layers whose weights are matrices, parameters of floats, (path, module)."""
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, LAYERS)]
    return [(path, layer) for path, layer in layers if is_plain(layer)]


def is_plain(layer: Any) -> bool:
    """Whether a layer keeps its weight as a parameter of floats, not as what is computed from others."""
    weight = layer._parameters.get("weight")
    return weight is not None and bool(weight.is_floating_point())


@contextmanager
def meetings(model: nn.Module, samples: int = 1) -> Iterator[dict[str, int]]:
    """How often a sample meets each weighted layer while the model runs on `samples` of them; in order of execution."""
    met: dict[str, int] = {}
    hooks = []
    for path, layer in weighted(model):

        def hook(layer: Any, _: Any, output: torch.Tensor, path: str = path) -> None:
            rows = layer.weight.shape[1 if isinstance(layer, Conv1D) else 0]
            met[path] = met.get(path, 0) + output.numel() // rows // samples

        hooks.append(layer.register_forward_hook(hook))
    try:
        yield met
    finally:
        for handle in hooks:
            handle.remove()


def matrix_of(layer: Any, path: str, block: int, reads: str, positions: int) -> Matrix:
    """The weight of an nn.Linear, a Conv1D or a convolution."""
    layout: Literal["linear", "transposed", "conv"] = "linear"
    groups = 1
    if isinstance(layer, Conv1D):
        layout = "transposed"
    elif isinstance(layer, CONVOLUTIONS):
        layout, groups = "conv", layer.groups
    return Matrix(f"{path}.weight", tuple(layer.weight.shape), layout, groups, block, reads, positions)


def kernel_cut(layer: Any, path: str, block: int) -> Cut | None:
    """The rings of taps around the middle of a convolution's kernel, which can go from the outermost inwards.

    None where there is no middle, fewer than two rings, or a padding that does not keep the size.
    """
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros" or not isinstance(layer.padding, tuple):
        return None
    side, other = layer.kernel_size
    rings = side // 2
    if side != other or side % 2 == 0 or rings < 2 or layer.padding != (rings, rings) or layer.dilation != (1, 1):
        return None
    index = np.array([[[rings - ring, rings + ring] for ring in range(1, rings + 1)]], dtype=np.int64)
    taps = tuple(Slot(f"{path}.weight", axis, index) for axis in (2, 3))
    return Cut("kernel", path, block, rings, taps, (), (Attribute(path, "padding", 1),))


class Parts:
    """Collects a network's parts while a family map walks over its modules."""

    def __init__(self, model: Any, positions: Mapping[str, int]) -> None:
        """
        Args:
            positions: how often one token, or one image, meets each linear and convolution.
        """
        self.model, self.positions = model, positions
        # Where the base model lies inside a model with a head.
        prefix = model.base_model_prefix
        self.root = f"{prefix}." if prefix and hasattr(model, prefix) else ""
        self.blocks: list[str] = []
        self.matrices: dict[str, Matrix] = {}
        self.cuts: dict[str, Cut] = {}
        self.drops: dict[str, Drop] = {}
        self.attentions: list[Attention] = []
        self.limits: list[str] = []

    def matrix(self, path: str, block: int, reads: str = "") -> Matrix:
        """Add the weight of a layer; `reads` names the layer whose input it shares, itself by default."""
        layer = self.model.get_submodule(path)
        matrix = matrix_of(layer, path, block, reads or path, self.positions.get(path, 1))
        self.matrices[matrix.name] = matrix
        if kernel := kernel_cut(layer, path, block):
            self.cuts[kernel.name] = kernel
        return matrix

    def rows(self, path: str, index: Index) -> tuple[Slot, ...]:
        """Where elements lie in the outputs of a module: its weight and, where it has one, its bias."""
        module: Any = self.model.get_submodule(path)
        axis = 1 if isinstance(module, Conv1D) else 0
        weight = Slot(f"{path}.weight", axis, index)
        return (weight,) if module.bias is None else (weight, Slot(f"{path}.bias", 0, index))

    def columns(self, path: str, index: Index) -> Slot:
        """Where elements lie in the inputs of a module."""
        name = f"{path}.weight"
        return Slot(name, self.matrices[name].input_axis, index)

    def sublayer(
        self,
        kind: Literal["attention", "ffn"],
        block: int,
        path: str,
        projections: Mapping[str, Index],
        output: str,
        width: int,
        *,
        elements: int,
        plain: Sequence[str] = (),
        own_input: Sequence[str] = (),
        extra_slots: Sequence[Slot] = (),
        attributes: Sequence[tuple[str, int]] = (),
        stand_ins: Sequence[tuple[str, str]] | None = None,
        norms: Sequence[str] = (),
        cut: bool = True,
    ) -> None:
        """An attention or feed-forward sublayer.

        Args:
            projections: paths of the linears that write the elements, and where elements lie in their outputs.
            output: path of the linear that reads the elements, `width` adjacent inputs each.
            elements: KV groups or neurons.
            plain: further linears that no cut touches.
            own_input: linears among all these that do not share the input of the first projection.
            extra_slots: further tensors that are cut.
            attributes: sizes that `path` keeps, (name, per element).
            stand_ins: what takes the place of which modules when it is dropped; `path` itself by default.
            norms: paths of norms that go with it.
            cut: whether elements can be removed.
        """
        shared = next(iter(projections))
        for linear in (*projections, *plain):
            self.matrix(linear, block, linear if linear in own_input else shared)
        self.matrix(output, block)
        if cut and elements > 1:
            writers = [slot for linear, index in projections.items() for slot in self.rows(linear, index)]
            unit_kind = "kv_groups" if kind == "attention" else "ffn_width"
            new = Cut(
                unit_kind,
                path,
                block,
                elements,
                (*writers, *extra_slots),
                (self.columns(output, span(elements, width)),),
                tuple(Attribute(path, name, per_element) for name, per_element in attributes),
            )
            self.cuts[new.name] = new
        if stand_ins is None:
            stand_ins = [(path, kind)]
        replaced = (*stand_ins, *((norm, "identity") for norm in norms))
        drop = Drop(kind, path, block, replaced, self._parameters(output))
        self.drops[drop.name] = drop

    def attention(
        self,
        block: int,
        path: str,
        projections: Mapping[str, Index],
        output: str,
        *,
        groups: int,
        queries: int,
        head_dim: int,
        value_dim: int | None = None,
        cached: bool = True,
        cached_always: int = 0,
        keys: int | None = None,
        head_attributes: Sequence[tuple[str, int]] = (("num_key_value_groups", 1),),
        cut: bool = True,
        **options: Any,
    ) -> None:
        """An attention sublayer of `groups` KV groups with `queries` query heads each.

        Args:
            head_dim, value_dim: of queries and keys, and of values where they differ.
            cached: whether keys and values go to a KV cache.
            cached_always: values a token that the cache holds whatever is cut.
            keys: for images, how many keys each query meets; all positions of the sample by default.
            head_attributes: sizes that `path` keeps, (name, per query head of a group).
            cut: whether KV groups, and query heads inside them, can be removed.
            options: of `sublayer`.
        """
        value_dim = head_dim if value_dim is None else value_dim
        self.sublayer(
            "attention", block, path, projections, output, queries * value_dim, elements=groups, cut=cut, **options
        )
        if cut and queries > 1:
            first, index = next(iter(projections.items()))  # queries come first, also where they are fused with keys
            writers = self.rows(first, index[0, :, : queries * head_dim].reshape(groups, queries, head_dim))
            columns = span(groups * queries, value_dim).reshape(groups, queries, value_dim)
            sizes = tuple(Attribute(path, name, per_head) for name, per_head in head_attributes)
            heads = Cut(
                "q_heads", path, block, queries, writers, (self.columns(output, columns),), sizes, orders=groups
            )
            self.cuts[heads.name] = heads
        image = hasattr(self.model.config, "num_channels")
        query_count = self.positions[next(iter(projections))] if image else 1
        keys = (query_count if keys is None else keys) if image else None
        self.attentions.append(
            Attention(
                path,
                f"{path}.kv_groups",
                f"{path}.q_heads",
                f"{path}.drop_attention",
                groups,
                queries,
                queries * (head_dim + value_dim),
                head_dim + value_dim if cached else 0,
                cached_always,
                query_count,
                keys,
            )
        )

    def ffn(self, block: int, path: str, projections: Sequence[str], output: str, **options: Any) -> None:
        """A feed-forward sublayer whose projections each write all neurons, in order."""
        module: Any = self.model.get_submodule(output)
        weight = module.weight
        neurons = weight.shape[0] if isinstance(module, Conv1D) else weight.shape[1]
        index = {linear: span(neurons, 1) for linear in projections}
        self.sublayer("ffn", block, path, index, output, 1, elements=neurons, **options)

    def moe(
        self,
        block: int,
        path: str,
        *,
        active: int,
        routing_groups: int = 1,
        minimum: int | None = None,
        norms: Sequence[str] = (),
        shared: str = "",
        plain: Sequence[str] = (),
    ) -> None:
        """A mixture-of-experts sublayer as transformers 5 builds it: `gate` a top-k router, `experts` 3-D tensors.

        Args:
            active: experts that act on a token.
            routing_groups: groups of experts that the router chooses among; each keeps equally many.
            minimum: fewest experts that may stay in each group; `active` by default.
            shared: name of a dense FFN that acts on every token.
            plain: further linears.
        """
        module: Any = self.model.get_submodule(path)
        experts = f"{path}.experts"
        up, down = module.experts.gate_up_proj, module.experts.down_proj
        count, _, neurons = down.shape
        inputs = Matrix(f"{experts}.gate_up_proj", tuple(up.shape), "experts", count, block, experts, active)
        outputs = Matrix(
            f"{experts}.down_proj", tuple(down.shape), "experts", count, block, f"{experts}.down_proj", active
        )
        self.matrices |= {inputs.name: inputs, outputs.name: outputs}
        for linear in plain:
            self.matrix(linear, block, f"{path}.{shared}.gate_proj" if shared else "")
        removal = self._expert_removal(block, path, routing_groups, active if minimum is None else minimum)
        both = joined(span(neurons, 1), span(neurons, 1, neurons))
        narrowing = Cut(
            "expert_width",
            path,
            block,
            neurons,
            (Slot(inputs.name, 1, both, batched=True),),
            (Slot(outputs.name, 2, span(neurons, 1), batched=True),),
            (Attribute(experts, "intermediate_dim", 1),),
            count,
            align=EXPERT_ALIGN,
        )
        self.cuts |= {removal.name: removal, narrowing.name: narrowing}
        outputs_of_all = [outputs.name]
        if shared:
            self._shared_expert(block, f"{path}.{shared}")
            outputs_of_all += self._parameters(f"{path}.{shared}.down_proj")
        replaced = ((path, "ffn"), *((norm, "identity") for norm in norms))
        drop = Drop("ffn", path, block, replaced, tuple(outputs_of_all))
        self.drops[drop.name] = drop

    def _expert_removal(self, block: int, path: str, groups: int, minimum: int) -> Cut:
        """The cut that removes whole experts, with their rows of the router."""
        module: Any = self.model.get_submodule(path)
        experts, gate, count = f"{path}.experts", f"{path}.gate", len(module.experts.down_proj)
        names = [f"{gate}.weight", f"{experts}.gate_up_proj", f"{experts}.down_proj"]
        if hasattr(module.gate, "e_score_correction_bias"):
            names.append(f"{gate}.e_score_correction_bias")
        index = np.arange(count, dtype=np.int64).reshape(groups, count // groups, 1)
        slots = tuple(Slot(name, 0, index) for name in names)
        sizes = tuple(Attribute(module, "num_experts", groups) for module in (gate, experts))
        return Cut("experts", path, block, count // groups, slots, (), sizes, groups, minimum)

    def _shared_expert(self, block: int, path: str) -> None:
        """A dense FFN inside a MoE sublayer: it can be narrowed, and is dropped with the whole."""
        self.ffn(block, path, [f"{path}.gate_proj", f"{path}.up_proj"], f"{path}.down_proj")
        del self.drops[f"{path}.drop_ffn"]

    def _parameters(self, path: str) -> tuple[str, ...]:
        return tuple(f"{path}.{name}" for name, _ in self.model.get_submodule(path).named_parameters())
