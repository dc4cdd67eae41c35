"""Sums over the inputs of a network's matrices, gathered by hooks while it runs.

Running sums, divided once at the end: how samples are split into minibatches changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sparsesearch.models.network import Matrix

# Suffixes of keys in statistics files.
FIELDS = ("second_moment", "mean", "sequence_square", "routing")


@dataclass(frozen=True)
class InputStatistics:
    """Statistics of the inputs of a matrix with G groups of I inputs each.

    Attributes:
        second_moment: E[x xᵀ], shape (G, I, I).
        mean: E[x], shape (G, I).
        sequence_square: mean over sequences of (mean over the sequence of |x|)², shape (G, I).
        routing: for experts, sums over the tokens routed to each, shape (G, 3): of 1; of gate · ‖f(x)‖; and of this
            product times 1 - cos(x, x + f(x)), the layer's change of the token's direction. Empty otherwise.
        factors: factors of one group's damped second moments, by damping; `pruning.linalg` keeps them here.
    """

    second_moment: torch.Tensor
    mean: torch.Tensor
    sequence_square: torch.Tensor
    routing: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    factors: dict[float, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def to(self, device: torch.device) -> InputStatistics:
        """Return these statistics on a device."""
        return InputStatistics(*(getattr(self, name).to(device) for name in FIELDS))

    def group(self, index: int) -> InputStatistics:
        """Return the statistics of one group, shapes (I, I), (I,), (I,), with `routing` of all groups."""
        return InputStatistics(self.second_moment[index], self.mean[index], self.sequence_square[index], self.routing)


class Collector:
    """Gathers input statistics of matrices while the network runs inside a `with` block."""

    def __init__(
        self, model: nn.Module, matrices: Iterable[Matrix], length: int, blocks: Mapping[int, str] | None = None
    ) -> None:
        """
        Args:
            model: the network that will run.
            matrices: matrices to collect for; of several that read one input, the one whose module is named
                `Matrix.input_key` is hooked.
            length: tokens of a sequence, to separate sequences in modules that see only tokens.
            blocks: paths of blocks by number, to collect the angles between their inputs and outputs.
        """
        self._blocks = blocks or {}
        self.model, self.length = model, length
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, torch.Tensor] = {}
        self.sequences: dict[str, torch.Tensor] = {}
        self._hooks: list[Any] = []
        self._sources = {
            m.input_key: m for m in matrices if m.name in (f"{m.input_key}.weight", f"{m.input_key}.gate_up_proj")
        }

    def __enter__(self) -> Collector:
        for key, matrix in self._sources.items():
            hook = self._expert_hook(key) if matrix.layout == "experts" else self._hook(key, matrix)
            self._hooks.append(self.model.get_submodule(key).register_forward_pre_hook(hook))
        for block, path in self._blocks.items():
            hook = self._turn_hook(f"block {block}")
            self._hooks.append(self.model.get_submodule(path).register_forward_hook(hook))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._hooks:
            handle.remove()
        self._hooks.clear()

    def result(self) -> dict[str, torch.Tensor]:
        """Return means (sums for `routing`) by `KEY:FIELD`, float32 on the CPU."""
        means = {}
        for name, total in self.sums.items():
            key, _, kind = name.rpartition(":")
            if kind == "routing":
                means[name] = total.float().cpu()
                continue
            counts = self.sequences[key] if kind == "sequence_square" else self.counts[key]
            shape = (-1,) + (1,) * (total.ndim - 1)
            means[name] = (total.cpu() / counts.clamp_min(1).view(shape)).float().contiguous()
        return means

    def _add(self, name: str, value: torch.Tensor, group: int | None = None, groups: int = 1) -> None:
        if name not in self.sums:
            shape = value.shape if group is None else (groups, *value.shape)
            self.sums[name] = value.new_zeros(shape)
        if group is None:
            self.sums[name] += value
        else:
            self.sums[name][group] += value

    def _count(self, table: dict[str, torch.Tensor], key: str, groups: int, group: int | None, count: int) -> None:
        counts = table.setdefault(key, torch.zeros(groups))
        if group is None:
            counts += count
        else:
            counts[group] += count

    def _hook(self, key: str, matrix: Matrix) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0].float()
            inputs = unfold_patches(module, x, matrix) if matrix.layout == "conv" else self._as_sequences(x)
            groups = inputs.shape[0]  # (G, sequences, positions, I)
            flat = inputs.flatten(1, 2)
            self._add(f"{key}:second_moment", flat.transpose(1, 2) @ flat)
            self._add(f"{key}:mean", flat.sum(dim=1))
            self._add(f"{key}:sequence_square", inputs.abs().mean(dim=2).square().sum(dim=1))
            self._count(self.counts, key, groups, None, flat.shape[1])
            self._count(self.sequences, key, groups, None, inputs.shape[1])

        return hook

    def _turn_hook(self, key: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            if not args or args[0].shape != output.shape:
                return
            by_token = cosines(args[0], output)
            self._add(f"{key}:turns", torch.stack([by_token.sum(), by_token.arccos().sum() / torch.pi]))
            self._count(self.counts, key, 1, None, by_token.numel())

        return hook

    def _as_sequences(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the inputs of a linear as (1, sequences, positions, I), also if its module flattened the sequences."""
        if inputs.ndim == 2 and inputs.shape[0] % self.length == 0:
            inputs = inputs.view(-1, self.length, inputs.shape[1])
        return inputs.reshape(1, inputs.shape[0], -1, inputs.shape[-1])

    def _expert_hook(self, key: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...]) -> None:
            hidden, routes, gates = args[0].float(), args[1], args[2].float()
            routed, norms = torch.zeros_like(hidden), []
            for expert in range(len(module.down_proj)):
                tokens, slot = torch.where(routes == expert)
                x = hidden[tokens]
                gate, up = functional.linear(x, module.gate_up_proj[expert].float()).chunk(2, dim=-1)
                inner = module.act_fn(gate) * up
                outputs = functional.linear(inner, module.down_proj[expert].float())
                self._add_expert(key, expert, len(module.down_proj), x)
                self._add_expert(f"{key}.down_proj", expert, len(module.down_proj), inner)
                routed.index_add_(0, tokens, outputs * gates[tokens, slot, None])
                norms.append((tokens, gates[tokens, slot] * outputs.norm(dim=-1)))
            turned = (1 - functional.cosine_similarity(hidden, hidden + routed, dim=-1)).clamp_min(0)
            rows = [torch.stack([n.new_tensor(float(len(t))), n.sum(), (n * turned[t]).sum()]) for t, n in norms]
            self._add(f"{key}:routing", torch.stack(rows))

        return hook

    def _add_expert(self, key: str, expert: int, experts: int, inputs: torch.Tensor) -> None:
        self._add(f"{key}:second_moment", inputs.T @ inputs, expert, experts)
        self._add(f"{key}:mean", inputs.sum(dim=0), expert, experts)
        # Tokens of a sequence go to different experts, so each token counts as a sequence.
        self._add(f"{key}:sequence_square", inputs.square().sum(dim=0), expert, experts)
        for table in (self.counts, self.sequences):
            self._count(table, key, experts, expert, len(inputs))


def cosines(inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """Return the cosine of each token's input and output, (..., hidden) -> (...), float64 in [-1, 1].

    Cosines of most blocks are near 1, where float32 rounding alone makes angles of 10⁻⁴ π. Rounding can also exceed
    [-1, 1], where there is no angle, so cosines are clamped.
    """
    return functional.cosine_similarity(inputs.double(), outputs.double(), dim=-1).clamp(-1, 1)


def unfold_patches(module: Any, inputs: torch.Tensor, matrix: Matrix) -> torch.Tensor:
    """Return the patches that a convolution reads.

    Args:
        module: a convolution over any number of spatial axes.
        inputs: its inputs, (samples, channels, ...).
        matrix: its matrix.

    Returns:
        (groups, samples, positions, inputs of a group).
    """
    padding = module._reversed_padding_repeated_twice
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(inputs, padding, mode=mode)
    if padded.ndim == 4:
        patches = functional.unfold(padded, module.kernel_size, module.dilation, 0, module.stride)
    else:
        patches = _patches(padded, module)
    samples, _, positions = patches.shape
    return patches.view(samples, matrix.groups, matrix.columns, positions).permute(1, 0, 3, 2)


def _patches(padded: torch.Tensor, module: Any) -> torch.Tensor:
    """Unfold inputs (samples, channels, ...) with any number of spatial axes: (samples, channels * taps, positions)."""
    axes = range(2, padded.ndim)
    for axis, kernel, dilation, stride in zip(axes, module.kernel_size, module.dilation, module.stride, strict=True):
        padded = padded.unfold(axis, (kernel - 1) * dilation + 1, stride)[..., ::dilation]
    count = len(axes)
    taps_first = padded.permute(0, 1, *range(2 + count, 2 + 2 * count), *axes)
    return taps_first.flatten(2 + count).flatten(1, 1 + count)
