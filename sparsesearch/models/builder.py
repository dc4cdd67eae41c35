"""The builder that family maps call: each call describes one sublayer by the names and sizes of its modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from transformers.pytorch_utils import Conv1D

from sparsesearch.models.network import Attention, Attribute, Cut, Drop, Index, Matrix, Slot
from sparsesearch.models.sublayers import CACHED, Context, Elements, Heads, Linears, Routing, join_indices, span
from sparsesearch.models.tracing.layers import kernel_cut, matrix_of

# torch's grouped matrix product needs rows of a multiple of 16 bytes, 8 numbers in half precision.
EXPERT_ALIGN = 8


class NetworkBuilder:
    """Collects the description of a network while a family map walks over its modules.

    Attributes:
        root: prefix of the base model's paths inside a model with a head.
        blocks, matrices, cuts, drops, attentions, unsearchable: as the attributes of `Network`.
    """

    def __init__(self, model: Any, positions: Mapping[str, int]) -> None:
        """
        Args:
            positions: number of times that each linear and convolution, by path, is applied to one token, or one image.
        """
        self.model, self.positions = model, positions
        prefix = model.base_model_prefix
        self.root = f"{prefix}." if prefix and hasattr(model, prefix) else ""
        self.blocks: list[str] = []
        self.matrices: dict[str, Matrix] = {}
        self.cuts: dict[str, Cut] = {}
        self.drops: dict[str, Drop] = {}
        self.attentions: list[Attention] = []
        self.unsearchable: list[str] = []

    def matrix(self, path: str, block: int, input_key: str = "") -> Matrix:
        """Add the weight of a layer; `input_key` names the layer whose input it shares, itself by default."""
        layer = self.model.get_submodule(path)
        matrix = matrix_of(layer, path, block, input_key or path, self.positions.get(path, 1))
        self.matrices[matrix.name] = matrix
        if kernel := kernel_cut(layer, path, block):
            self.cuts[kernel.name] = kernel
        return matrix

    def rows(self, path: str, index: Index) -> tuple[Slot, ...]:
        """Return the slots of elements in the outputs of a module: in its weight and, if it has one, its bias.

        Args:
            index: positions among the outputs, shape (orders, elements, span).
        """
        module: Any = self.model.get_submodule(path)
        axis = 1 if isinstance(module, Conv1D) else 0
        weight = Slot(f"{path}.weight", axis, index)
        return (weight,) if module.bias is None else (weight, Slot(f"{path}.bias", 0, index))

    def columns(self, path: str, index: Index) -> Slot:
        """Return the slot of elements in the inputs of a module; `index` has shape (orders, elements, span)."""
        name = f"{path}.weight"
        return Slot(name, self.matrices[name].input_axis, index)

    def sublayer(
        self,
        kind: Literal["attention", "ffn"],
        block: int,
        path: str,
        linears: Linears,
        elements: Elements,
        *,
        norms: Sequence[str] = (),
        stand_ins: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        """Add an attention or feed-forward sublayer.

        Args:
            norms: paths of norms that are dropped with it.
            stand_ins: (path of a module, name of the module that replaces it) when the sublayer is dropped; `path`
                itself by default.
        """
        projections, output = linears.projections, linears.output
        shared = next(iter(projections))
        for linear in (*projections, *linears.plain):
            self.matrix(linear, block, linear if linear in linears.own_input else shared)
        self.matrix(output, block)
        if elements.removable and elements.count > 1:
            writers = [slot for linear, index in projections.items() for slot in self.rows(linear, index)]
            cut = Cut(
                "kv_groups" if kind == "attention" else "ffn_width",
                path,
                block,
                elements.count,
                (*writers, *elements.extra_slots),
                (self.columns(output, span(elements.count, elements.width)),),
                tuple(Attribute(path, name, per_element) for name, per_element in elements.attributes),
            )
            self.cuts[cut.name] = cut
        if stand_ins is None:
            stand_ins = [(path, kind)]
        replaced = (*stand_ins, *((norm, "identity") for norm in norms))
        drop = Drop(kind, path, block, replaced, self._parameters(output))
        self.drops[drop.name] = drop

    def attention(
        self,
        block: int,
        path: str,
        linears: Linears,
        heads: Heads,
        *,
        context: Context = CACHED,
        norms: Sequence[str] = (),
        stand_ins: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        """Add an attention sublayer; `norms` and `stand_ins` as in `sublayer`."""
        groups, queries, head_dim = heads.groups, heads.queries, heads.head_dim
        value_dim = head_dim if heads.value_dim is None else heads.value_dim
        elements = Elements(groups, queries * value_dim, heads.attributes, heads.extra_slots, heads.removable)
        self.sublayer("attention", block, path, linears, elements, norms=norms, stand_ins=stand_ins)
        # Queries come first, also in a projection that fuses them with keys and values.
        query_projection, index = next(iter(linears.projections.items()))
        if heads.removable and queries > 1:
            writers = self.rows(query_projection, index[0, :, : queries * head_dim].reshape(groups, queries, head_dim))
            reader = self.columns(linears.output, span(groups * queries, value_dim).reshape(groups, queries, value_dim))
            sizes = tuple(Attribute(path, name, per_head) for name, per_head in heads.query_attributes)
            cut = Cut("q_heads", path, block, queries, writers, (reader,), sizes, orders=groups)
            self.cuts[cut.name] = cut
        takes_images = hasattr(self.model.config, "num_channels")
        query_count = self.positions[query_projection] if takes_images else 1
        keys = (query_count if context.keys is None else context.keys) if takes_images else None
        self.attentions.append(
            Attention(
                path,
                f"{path}.kv_groups",
                f"{path}.q_heads",
                f"{path}.drop_attention",
                groups,
                queries,
                queries * (head_dim + value_dim),
                head_dim + value_dim if context.cached else 0,
                context.always_cached,
                query_count,
                keys,
            )
        )

    def ffn(
        self,
        block: int,
        path: str,
        projections: Sequence[str],
        output: str,
        *,
        norms: Sequence[str] = (),
        stand_ins: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        """Add a feed-forward sublayer whose projections each write all neurons, in order.

        Args:
            projections: paths of the linears that write the neurons.
            output: path of the linear that reads them.
            norms, stand_ins: as in `sublayer`.
        """
        module: Any = self.model.get_submodule(output)
        weight = module.weight
        neurons = weight.shape[0] if isinstance(module, Conv1D) else weight.shape[1]
        linears = Linears({linear: span(neurons, 1) for linear in projections}, output)
        self.sublayer("ffn", block, path, linears, Elements(neurons), norms=norms, stand_ins=stand_ins)

    def moe(
        self,
        block: int,
        path: str,
        routing: Routing,
        *,
        norms: Sequence[str] = (),
        shared: str = "",
        plain: Sequence[str] = (),
    ) -> None:
        """Add a mixture-of-experts sublayer as transformers 5 builds it: `gate` a top-k router, `experts` 3-D tensors.

        Args:
            norms: paths of norms that are dropped with it.
            shared: name of a dense FFN that acts on every token.
            plain: further linears.
        """
        module: Any = self.model.get_submodule(path)
        experts = f"{path}.experts"
        up, down = module.experts.gate_up_proj, module.experts.down_proj
        count, _, neurons = down.shape
        inputs = Matrix(f"{experts}.gate_up_proj", tuple(up.shape), "experts", count, block, experts, routing.active)
        outputs = Matrix(
            f"{experts}.down_proj", tuple(down.shape), "experts", count, block, f"{experts}.down_proj", routing.active
        )
        self.matrices |= {inputs.name: inputs, outputs.name: outputs}
        for linear in plain:
            self.matrix(linear, block, f"{path}.{shared}.gate_proj" if shared else "")
        removal = self._expert_removal(block, path, routing)
        gate_and_up = join_indices(span(neurons, 1), span(neurons, 1, neurons))
        narrowing = Cut(
            "expert_width",
            path,
            block,
            neurons,
            (Slot(inputs.name, 1, gate_and_up, batched=True),),
            (Slot(outputs.name, 2, span(neurons, 1), batched=True),),
            (Attribute(experts, "intermediate_dim", 1),),
            count,
            align=EXPERT_ALIGN,
        )
        self.cuts |= {removal.name: removal, narrowing.name: narrowing}
        silencing = [outputs.name]
        if shared:
            self._shared_expert(block, f"{path}.{shared}")
            silencing += self._parameters(f"{path}.{shared}.down_proj")
        replaced = ((path, "ffn"), *((norm, "identity") for norm in norms))
        drop = Drop("ffn", path, block, replaced, tuple(silencing))
        self.drops[drop.name] = drop

    def _expert_removal(self, block: int, path: str, routing: Routing) -> Cut:
        """Return the cut that removes whole experts, with their rows of the router."""
        module: Any = self.model.get_submodule(path)
        experts, gate, count = f"{path}.experts", f"{path}.gate", len(module.experts.down_proj)
        names = [f"{gate}.weight", f"{experts}.gate_up_proj", f"{experts}.down_proj"]
        if hasattr(module.gate, "e_score_correction_bias"):
            names.append(f"{gate}.e_score_correction_bias")
        groups = routing.groups
        minimum = routing.active if routing.minimum is None else routing.minimum
        index = np.arange(count, dtype=np.int64).reshape(groups, count // groups, 1)
        slots = tuple(Slot(name, 0, index) for name in names)
        sizes = tuple(Attribute(module, "num_experts", groups) for module in (gate, experts))
        return Cut("experts", path, block, count // groups, slots, (), sizes, groups, minimum)

    def _shared_expert(self, block: int, path: str) -> None:
        """Add the dense FFN inside a MoE sublayer: it can be narrowed, and is dropped only with the whole sublayer."""
        self.ffn(block, path, [f"{path}.gate_proj", f"{path}.up_proj"], f"{path}.down_proj")
        del self.drops[f"{path}.drop_ffn"]

    def _parameters(self, path: str) -> tuple[str, ...]:
        return tuple(f"{path}.{name}" for name, _ in self.model.get_submodule(path).named_parameters())
